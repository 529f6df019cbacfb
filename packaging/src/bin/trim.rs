//! `make build`: the compiled module without what nobody calls: the exports that Envoy need not call, the SDK's methods
//! that only would do in another way what is done through its host calls, and what only those need.

use std::path::Path;
use std::process::ExitCode;

use packaging::{EXPORTS, Failure};
use rustc_demangle::demangle;
use walrus::{ExportId, FunctionBuilder, FunctionId, FunctionKind, Module, ModuleConfig, passes};

fn main() -> ExitCode {
    packaging::main("make build", "trim COMPILED TRIMMED", trim)
}

fn trim(compiled: &Path, trimmed: &Path) -> Result<(), Failure> {
    let mut config = ModuleConfig::new();
    // The names are needed here, and by nobody else.
    config.generate_name_section(false).generate_producers_section(false);
    let mut module = config.parse_file(compiled)?;
    for name in EXPORTS {
        if !module.exports.iter().any(|export| export.name == name) {
            return Err(format!("{}: does not export {name}", compiled.display()).into());
        }
    }
    let is_needless = |name: &str| !EXPORTS.contains(&name);
    let needless: Vec<ExportId> =
        module.exports.iter().filter(|export| is_needless(&export.name)).map(|export| export.id()).collect();
    needless.into_iter().for_each(|export| module.exports.delete(export));
    let uncalled: Vec<FunctionId> = module
        .funcs
        .iter_local()
        .filter(|(id, _)| module.funcs.get(*id).name.as_deref().is_some_and(is_uncalled))
        .map(|(id, _)| id)
        .collect();
    if uncalled.is_empty() {
        return Err(format!("{}: has no names of functions", compiled.display()).into());
    }
    uncalled.into_iter().for_each(|function| empty(&mut module, function));
    passes::gc::run(&mut module);
    Ok(module.emit_wasm_file(trimmed)?)
}

/// Whether nobody calls the function of this name, though the compiler cannot know it: a method that is in a vtable
/// because its trait has it, or what would print a panic if the SDK did not have it logged.
fn is_uncalled(name: &str) -> bool {
    let name = format!("{:#}", demangle(name));
    // What a type has of its own, and not by default, is called `<Type as proxy_wasm::traits::Trait>::method`.
    if let Some((_, method)) = name.strip_prefix("proxy_wasm::traits::").and_then(|path| path.split_once("::")) {
        return !["on_", "create_", "get_type"].iter().any(|called| method.starts_with(called));
    }
    name == "std::panicking::default_hook"
}

/// Leaves of a function that it traps.
fn empty(module: &mut Module, function: FunctionId) {
    let signature = module.types.get(module.funcs.get(function).ty());
    let (parameters, results) = (signature.params().to_vec(), signature.results().to_vec());
    let arguments = parameters.iter().map(|kind| module.locals.add(*kind)).collect();
    let mut builder = FunctionBuilder::new(&mut module.types, &parameters, &results);
    builder.func_body().unreachable();
    module.funcs.get_mut(function).kind = FunctionKind::Local(builder.local_func(arguments));
}
