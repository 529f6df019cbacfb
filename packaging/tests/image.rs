//! `make image`: the archive, read back as an OCI client reads it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect has failed"
)]

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use flate2::read::GzDecoder;
use packaging::module;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Writes an image of the file at `module`; gives the archive and what was printed.
fn image_of(module: &Path) -> (Vec<u8>, String) {
    let folder = TempDir::new().unwrap();
    let archive = folder.path().join("image.oci.tar");
    let output = Command::new(env!("CARGO_BIN_EXE_image")).arg(module).arg(&archive).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (std::fs::read(archive).unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// The files in a tar, which must all be of nobody and of no time.
fn files(bytes: &[u8]) -> HashMap<String, Vec<u8>> {
    let mut files = HashMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert!(header.entry_type().is_file());
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
        assert_eq!(header.mode().unwrap(), 0o644);
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert!(files.insert(name.clone(), content).is_none(), "{name} is there twice");
    }
    files
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The blob of a descriptor, if it is what the descriptor says.
fn blob<'a>(files: &'a HashMap<String, Vec<u8>>, descriptor: &Value, media_type: &str) -> &'a [u8] {
    assert_eq!(descriptor["mediaType"], media_type);
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let blob = &files[&format!("blobs/sha256/{digest}")];
    assert_eq!(descriptor["size"], blob.len());
    assert_eq!(sha256(blob), digest);
    blob
}

#[test]
fn an_oci_client_finds_one_layer_with_the_module_alone_and_every_digest_right() {
    let (archive, printed) = image_of(&module());
    let files = files(&archive);
    let parsed = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    assert_eq!(parsed(&files["oci-layout"]), json!({"imageLayoutVersion": "1.0.0"}));
    let index = parsed(&files["index.json"]);
    assert_eq!((&index["schemaVersion"], index["manifests"].as_array().unwrap().len()), (&json!(2), 1));
    let manifest = blob(&files, &index["manifests"][0], "application/vnd.oci.image.manifest.v1+json");
    let image = parsed(manifest);
    assert_eq!(image["schemaVersion"], 2);
    assert_eq!(image["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let config = parsed(blob(&files, &image["config"], "application/vnd.oci.image.config.v1+json"));
    assert_eq!(image["layers"].as_array().unwrap().len(), 1);
    // The one media type that both Istio and Envoy Gateway unpack.
    let layer = blob(&files, &image["layers"][0], "application/vnd.oci.image.layer.v1.tar+gzip");
    let mut unpacked = Vec::new();
    GzDecoder::new(layer).read_to_end(&mut unpacked).unwrap();
    let expected = json!({"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&unpacked))]});
    assert_eq!(config["rootfs"], expected);
    let plugin = std::fs::read(module()).unwrap();
    assert_eq!(self::files(&unpacked), HashMap::from([("plugin.wasm".to_owned(), plugin.clone())]));
    assert_eq!(files.len(), 5, "nothing else is in the archive");
    let digests: Vec<_> = printed.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(digests, [sha256(manifest), sha256(&plugin)]);
}

#[test]
fn the_same_module_makes_the_same_image_whatever_the_files_name_and_age_and_another_makes_another() {
    let folder = TempDir::new().unwrap();
    let (copy, other) = (folder.path().join("copy"), folder.path().join("other"));
    std::fs::copy(module(), &copy).unwrap();
    std::fs::write(&other, b"\0asm\x01\0\0\0").unwrap();
    let (image, _) = image_of(&module());
    assert!(image == image_of(&copy).0);
    assert!(image != image_of(&other).0);
}
