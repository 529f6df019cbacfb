//! `make image`: the module as an OCI image in an OCI archive, which is the same bytes for the same module.
//!
//! Of the layouts that Istio and Envoy Gateway load, this is the one that registries take for an ordinary image:
//! a single layer `application/vnd.oci.image.layer.v1.tar+gzip` with `plugin.wasm` in it.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// The one name that both loaders look for.
const PLUGIN: &str = "plugin.wasm";

/// Why the image cannot be made.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [module, archive] = arguments.as_slice() else {
        eprintln!("usage: image MODULE ARCHIVE");
        return ExitCode::FAILURE;
    };
    match write(module, archive) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("make image: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn write(path: &Path, archive: &Path) -> Result<(), Failure> {
    let module = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let image = Image::of(&module)?;
    let bytes = image.archive()?;
    std::fs::write(archive, &bytes).map_err(|error| format!("{}: {error}", archive.display()))?;
    println!("{}: {} bytes", archive.display(), bytes.len());
    println!("sha256 of the image, for `sha256` beside an oci:// URL, or behind @sha256: in it:");
    println!("  {}", image.manifest.digest);
    println!("sha256 of the module, for `sha256` beside an http:// or https:// URL:");
    println!("  {}", sha256(&module));
    Ok(())
}

/// A piece of the image, by its digest.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: sha256(&bytes), bytes }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"digest": format!("sha256:{}", self.digest), "mediaType": media_type, "size": self.bytes.len()})
    }
}

struct Image {
    layer: Blob,
    config: Blob,
    manifest: Blob,
}

// The keys of all JSON here are in the order of the alphabet, so that the bytes do not depend on whether
// serde_json keeps the order of writing, which another crate of the build may ask of it.
impl Image {
    fn of(module: &[u8]) -> io::Result<Self> {
        let files = tar(&[(PLUGIN, module)])?;
        // No name, no time, no operating system: the header of gzip would tell builds apart.
        let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::best());
        gzip.write_all(&files)?;
        let layer = Blob::new(gzip.finish()?);
        // Neither loader reads the platform. Container engines refuse an image of another operating system.
        let config = json!({
            "architecture": "amd64",
            "config": {},
            "os": "linux",
            "rootfs": {"diff_ids": [format!("sha256:{}", sha256(&files))], "type": "layers"},
        });
        let config = Blob::new(config.to_string().into_bytes());
        let manifest = json!({
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar+gzip")],
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "schemaVersion": 2,
        });
        Ok(Self { layer, config, manifest: Blob::new(manifest.to_string().into_bytes()) })
    }

    fn archive(&self) -> io::Result<Vec<u8>> {
        let index = json!({
            "manifests": [self.manifest.descriptor("application/vnd.oci.image.manifest.v1+json")],
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "schemaVersion": 2,
        });
        let blobs =
            [&self.layer, &self.config, &self.manifest].map(|blob| (blob, format!("blobs/sha256/{}", blob.digest)));
        let (layout, index) = (json!({"imageLayoutVersion": "1.0.0"}).to_string(), index.to_string());
        let mut files = vec![("oci-layout", layout.as_bytes()), ("index.json", index.as_bytes())];
        files.extend(blobs.iter().map(|(blob, name)| (name.as_str(), blob.bytes.as_slice())));
        tar(&files)
    }
}

/// A tar of `files` in this order, without owners and times.
fn tar(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_path(name)?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len().try_into().map_err(io::Error::other)?);
        header.set_cksum();
        tar.append(&header, *bytes)?;
    }
    tar.into_inner()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
