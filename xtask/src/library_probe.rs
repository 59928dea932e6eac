//! Contracts that call every function of the Solidity library once, for the tests of the library.
//!
//! `cargo xtask library-probe --out DIR` writes the probes from the same list of functions as the library, compiles them
//! with our library into `DIR/ours` and with the published one into `DIR/published`. Each function of the library has two
//! probes, named after it and the types of its parameters, such as `add__euint8_euint16__stored` and
//! `add__euint8_euint16__unset`: with operands that hold a value, and with variables that were never written. A probe
//! emits `Result` with the handle it got.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use cipherloom_primitives::FheType;

use crate::{
    contracts::{Compilation, LIBRARY_PACKAGE, contracts_dir, install_compiler},
    generate::{
        overloads::{Overload, overloads},
        solidity::{capitalised, external},
    },
    published_library::{Release, packages, with_published_imports},
};

/// How many functions one contract probes; more would exceed the size that a chain accepts.
const FUNCTIONS_PER_CONTRACT: usize = 20;

/// Functions that the published library does not have yet.
const ONLY_OURS: [&str; 1] = ["mulDiv"];

/// The probes that do not depend on the table.
const FIXED: &str = include_str!("library_probe_fixed.sol.in");

/// Writes and compiles the probes.
///
/// # Errors
/// If npm is missing, a package cannot be installed, or a probe does not compile.
pub(crate) fn run(out: &Path) -> Result<()> {
    install_compiler()?;
    let published = Release::default().install()?;
    let (ours_only, common): (Vec<_>, Vec<_>) = overloads()
        .into_iter()
        .partition(|overload| ONLY_OURS.contains(&overload.name.as_str()));

    let sources = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (ours, moved) = (sources.path().join("ours"), sources.path().join("published"));
    fs::create_dir_all(&ours)?;
    fs::create_dir_all(&moved)?;
    let common = [probes("Probe", &common), permissions(), FIXED.to_owned()].concat();
    let common = format!("{}{common}", head());
    fs::write(ours.join("Probes.sol"), &common)?;
    fs::write(ours.join("OwnProbes.sol"), format!("{}{}", head(), probes("OwnProbe", &ours_only)))?;
    fs::write(moved.join("Probes.sol"), with_published_imports(&common)?)?;

    compilation(&ours, LIBRARY_PACKAGE, contracts_dir().as_path()).write_to(&out.join("ours"))?;
    compilation(&moved, crate::published_library::PUBLISHED_PACKAGE, &published).write_to(&out.join("published"))
}

fn compilation(sources: &Path, package: &str, library: &Path) -> Compilation {
    Compilation {
        roots: vec![("probes".to_owned(), sources.to_path_buf())],
        maps: vec![(package.to_owned(), library.to_path_buf())],
        modules: vec![packages().join("node_modules")],
        ..Compilation::default()
    }
}

fn head() -> String {
    let types: Vec<String> = FheType::ALL
        .iter()
        .map(|ty| ty.solidity_name().to_owned())
        .chain(FheType::ALL.map(external))
        .collect();
    format!(
        "// SPDX-License-Identifier: Apache-2.0\npragma solidity ^0.8.24;\n\nimport {{FHE, {}}} from \"{LIBRARY_PACKAGE}/lib/FHE.sol\";\nimport {{ZamaEthereumConfig}} from \"{LIBRARY_PACKAGE}/config/ZamaConfig.sol\";\n\n",
        types.join(", ")
    )
}

/// Writes contracts that probe these functions.
fn probes(name: &str, overloads: &[Overload]) -> String {
    let mut text = String::new();
    for (index, functions) in overloads.chunks(FUNCTIONS_PER_CONTRACT).enumerate() {
        let _ = write!(
            text,
            "contract {name}{index} is ZamaEthereumConfig {{\n    event Result(bytes32 handle);\n\n"
        );
        for overload in functions {
            text.push_str(&probe(overload, true));
            text.push_str(&probe(overload, false));
        }
        text.push_str("}\n\n");
    }
    text
}

fn probe(overload: &Overload, stored: bool) -> String {
    let types: Vec<String> = overload.parameters.iter().map(|(ty, _)| word(ty)).collect();
    let mut body = String::new();
    let mut arguments = Vec::new();
    for (index, (ty, _)) in overload.parameters.iter().enumerate() {
        let variable = format!("v{index}");
        arguments.push(argument(ty, &variable, stored, &mut body));
    }
    format!(
        "    function {}__{}__{}() external {{\n{body}        emit Result({}.unwrap(FHE.{}({})));\n    }}\n\n",
        overload.name,
        types.join("_"),
        if stored { "stored" } else { "unset" },
        overload.result,
        overload.name,
        arguments.join(", ")
    )
}

/// A type as a part of a name: `euint8[] memory` becomes `euint8List`.
fn word(ty: &str) -> String {
    match ty.strip_suffix("[] memory") {
        Some(element) => format!("{element}List"),
        None => ty.replace(" memory", ""),
    }
}

/// Writes the statements that prepare an argument and returns the expression for it.
fn argument(ty: &str, variable: &str, stored: bool, body: &mut String) -> String {
    let made = |ty: FheType| format!("FHE.as{}({})", capitalised(ty.solidity_name()), plaintext(ty));
    if let Some(element) = ty.strip_suffix("[] memory").and_then(FheType::from_solidity_name) {
        let name = element.solidity_name();
        let _ = writeln!(body, "        {name}[] memory {variable} = new {name}[](2);");
        if stored {
            let _ = writeln!(body, "        {variable}[0] = {};", made(element));
        }
        let _ = writeln!(body, "        {variable}[1] = {};", made(element));
        return variable.to_owned();
    }
    if let Some(encrypted) = FheType::from_solidity_name(ty) {
        let value = if stored { format!(" = {}", made(encrypted)) } else { String::new() };
        let _ = writeln!(body, "        {ty} {variable}{value};");
        return variable.to_owned();
    }
    if let Some(inner) = FheType::ALL.into_iter().find(|candidate| external(*candidate) == ty) {
        let name = inner.solidity_name();
        if !stored {
            return format!("{ty}.wrap(0)");
        }
        let _ = writeln!(body, "        {name} {variable} = FHE.allowTransient({}, msg.sender);", made(inner));
        return format!("{ty}.wrap({name}.unwrap({variable}))");
    }
    match FheType::ALL.into_iter().find(|candidate| candidate.plain_solidity_name() == ty) {
        Some(plain) => plaintext(plain),
        None => "\"\"".to_owned(),
    }
}

/// A plaintext of the type. Integers are a power of two, so that they serve as the bound of a random value too.
fn plaintext(ty: FheType) -> String {
    match ty {
        FheType::Bool => "true".to_owned(),
        FheType::Address => "address(0x0000000000000000000000000000000000000008)".to_owned(),
        other => format!("{}(8)", other.plain_solidity_name()),
    }
}

/// Writes a contract that probes the permissions of every type.
fn permissions() -> String {
    let mut text =
        "contract PermissionProbe is ZamaEthereumConfig {\n    event Result(bytes32 handle);\n    event Answer(bool answer);\n\n"
            .to_owned();
    for ty in FheType::ALL {
        for stored in [true, false] {
            let name = ty.solidity_name();
            let mut body = String::new();
            argument(name, "value", stored, &mut body);
            let _ = write!(
                text,
                "    function permissions__{name}__{}() external {{
{body}        emit Answer(FHE.isInitialized(value));
        emit Answer(FHE.isSenderAllowed(value));
        value = FHE.allowTransient(value, msg.sender);
        emit Answer(FHE.isSenderAllowed(value));
        emit Answer(FHE.isAllowed(value, address(0x77)));
        emit Result({name}.unwrap(FHE.allow(value, address(0x77))));
        emit Answer(FHE.isAllowed(value, address(0x77)));
        emit Result({name}.unwrap(FHE.allowThis(value)));
        emit Answer(FHE.isUserDecryptable(FHE.toBytes32(value), address(0x77), address(this)));
        emit Answer(FHE.isUserDecryptable(FHE.toBytes32(value), address(0x78), address(this)));
        emit Answer(FHE.isUserDecryptable(FHE.toBytes32(value), address(this), address(this)));
        emit Answer(FHE.isPubliclyDecryptable(value));
        emit Result({name}.unwrap(FHE.makePubliclyDecryptable(value)));
        emit Answer(FHE.isPubliclyDecryptable(value));
    }}

",
                if stored { "stored" } else { "unset" }
            );
        }
    }
    text.push_str("}\n\n");
    text
}
