//! `make build`: the compiled module without what nobody calls: the exports that Envoy need not call, the SDK's methods
//! that only would do in another way what is done through its host calls, and what only those need.

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;

use packaging::{EXPORTS, Failure};
use rustc_demangle::demangle;
use walrus::ir::{Call, Visitor, dfs_in_order};
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
    let methods = empty_all(&mut module, is_uncalled_method)?;
    empty_all(&mut module, is_panic_printer)?;
    passes::gc::run(&mut module);
    // What is called by way of a vtable nobody sees here; but the compiler may have made one function of two.
    match caller(&module, &methods) {
        Some(name) => Err(format!("{}: {name} calls what is emptied", compiled.display()).into()),
        None => Ok(module.emit_wasm_file(trimmed)?),
    }
}

/// Leaves of the functions of these names that they trap.
fn empty_all(module: &mut Module, is_uncalled: fn(&str) -> bool) -> Result<HashSet<FunctionId>, Failure> {
    let has_name = |id: FunctionId| module.funcs.get(id).name.as_deref().is_some_and(is_uncalled);
    let uncalled: HashSet<_> = module.funcs.iter_local().map(|(id, _)| id).filter(|id| has_name(*id)).collect();
    if uncalled.is_empty() {
        return Err("the module has no function of a name that is to be emptied".into());
    }
    uncalled.iter().for_each(|function| empty(module, *function));
    Ok(uncalled)
}

/// Whether this is a method of the SDK's that is there only because its trait has it, and so every vtable: those that
/// Envoy's calls end in are named otherwise.
fn is_uncalled_method(name: &str) -> bool {
    let name = format!("{:#}", demangle(name));
    // What a type has of its own, and not by default, is called `<Type as proxy_wasm::traits::Trait>::method`.
    let method = name.strip_prefix("proxy_wasm::traits::").and_then(|path| path.split_once("::"));
    method.is_some_and(|(_, method)| !["on_", "create_", "get_type"].iter().any(|called| method.starts_with(called)))
}

/// Whether this prints a panic, which the SDK has logged instead.
fn is_panic_printer(name: &str) -> bool {
    format!("{:#}", demangle(name)) == "std::panicking::default_hook"
}

/// The name of a function that calls one of `called` by name, and not by way of a vtable.
fn caller(module: &Module, called: &HashSet<FunctionId>) -> Option<String> {
    let mut calls = Calls { called, is_found: false };
    let (id, _) = module.funcs.iter_local().find(|(_, function)| {
        dfs_in_order(&mut calls, function, function.entry_block());
        calls.is_found
    })?;
    module.funcs.get(id).name.clone().or_else(|| Some("a function without a name".to_owned()))
}

struct Calls<'a> {
    called: &'a HashSet<FunctionId>,
    is_found: bool,
}

impl Visitor<'_> for Calls<'_> {
    fn visit_call(&mut self, call: &Call) {
        self.is_found |= self.called.contains(&call.func);
    }
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
