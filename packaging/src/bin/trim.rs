//! `make build`: the compiled module without the exports that Envoy need not call, and without what only
//! those need.

use std::path::Path;
use std::process::ExitCode;

use packaging::{EXPORTS, Failure};
use walrus::{ExportId, Module, passes};

fn main() -> ExitCode {
    packaging::main("make build", "trim COMPILED TRIMMED", trim)
}

fn trim(compiled: &Path, trimmed: &Path) -> Result<(), Failure> {
    let mut module = Module::from_file(compiled)?;
    for name in EXPORTS {
        if !module.exports.iter().any(|export| export.name == name) {
            return Err(format!("{}: does not export {name}", compiled.display()).into());
        }
    }
    let is_needless = |name: &str| !EXPORTS.contains(&name);
    let needless: Vec<ExportId> =
        module.exports.iter().filter(|export| is_needless(&export.name)).map(|export| export.id()).collect();
    needless.into_iter().for_each(|export| module.exports.delete(export));
    passes::gc::run(&mut module);
    Ok(module.emit_wasm_file(trimmed)?)
}
