//! `make build`: the compiled module without the exports that Envoy need not call, and without what only
//! those need.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use packaging::EXPORTS;
use walrus::{ExportId, Module, passes};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [compiled, trimmed] = arguments.as_slice() else {
        eprintln!("usage: trim COMPILED TRIMMED");
        return ExitCode::FAILURE;
    };
    match trim(compiled, trimmed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("make build: {failure}");
            ExitCode::FAILURE
        }
    }
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
