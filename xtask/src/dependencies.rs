//! What we build on: under licences that ours allows, from registries alone, and each crate once in what we ship.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use spdx::{Expression, ParseMode};

use crate::cargo_tool::CARGO_CYCLONEDX;
use crate::command::command;
use crate::step::Outcome;
use crate::workspace;

/// What may be part of a program under "MIT OR Apache-2.0" without a condition on that program's own source.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Further licences of npm packages that only build or test with us: nothing of them is shipped.
const LICENCES_OF_TOOLS: &[&str] = &["MPL-2.0"];

/// What a package is said to be under that names none.
const NO_LICENCE: &str = "no licence";

/// What is shipped: the relay, and the module in the npm package.
const SHIPPED: &[&str] = &["tidewell-server", "tidewell-client-wasm"];

/// Crates that what we ship has in several versions, which its dependencies ask for.
const SEVERAL_VERSIONS: &[&str] = &[
    "foldhash",
    "getrandom",
    "hashbrown",
    "r-efi",
    "rand",
    "rand_chacha",
    "rand_core",
    "syn",
    "windows-sys",
];

/// The manifests with lock files of their own.
const MANIFESTS: &[&str] = &["Cargo.toml", "fuzz/Cargo.toml", "crates/server/fuzz/Cargo.toml"];

/// npm's lock files.
const NPM_LOCKS: &[&str] = &[
    "web/package-lock.json",
    "tests/package-lock.json",
    "crates/sync-core/tests/fixtures/package-lock.json",
];

/// The step of `test`.
pub(crate) fn check() -> Result<Outcome> {
    let mut problems = Vec::new();
    for manifest in MANIFESTS {
        let metadata = MetadataCommand::new()
            .manifest_path(workspace::path(manifest))
            .other_options(vec!["--locked".to_owned()])
            .exec()
            .with_context(|| format!("reading {manifest}"))?;
        problems.extend(metadata.packages.iter().filter_map(problem_of));
        if *manifest == "Cargo.toml" {
            problems.extend(several_versions(&metadata)?);
        }
        println!("{manifest}: {} crates", metadata.packages.len());
    }
    for lock in NPM_LOCKS {
        let text = fs::read_to_string(workspace::path(lock)).with_context(|| format!("reading {lock}"))?;
        let found = npm_problems(&serde_json::from_str(&text).with_context(|| format!("reading {lock}"))?);
        problems.extend(found.into_iter().map(|problem| format!("{lock}: {problem}")));
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(Outcome::Passed)
}

/// Lists all that the relay and the module are made of, in CycloneDX's form, as `target/sbom/*.json`.
pub(crate) fn list() -> Result<()> {
    const LIST: &str = "sbom";
    CARGO_CYCLONEDX.install()?;
    let folder = workspace::target("sbom");
    fs::create_dir_all(&folder)?;
    let program = CARGO_CYCLONEDX.program()?;
    command(program).line("cyclonedx --format json --override-filename").argument(LIST).run()?;
    // It writes one beside every manifest of the workspace.
    let ours = MetadataCommand::new().manifest_path(workspace::path("Cargo.toml")).no_deps().exec()?;
    for package in ours.packages {
        let list = package.manifest_path.with_file_name(format!("{LIST}.json"));
        if SHIPPED.contains(&package.name.as_str()) {
            fs::copy(&list, folder.join(format!("{}.json", package.name)))?;
        }
        fs::remove_file(&list).with_context(|| format!("removing {list}"))?;
    }
    println!("in {}", folder.display());
    Ok(())
}

/// What is wrong with where a crate comes from or with its licence.
fn problem_of(package: &Package) -> Option<String> {
    let whose = format!("{} {}", package.name, package.version);
    match &package.source {
        // Ours.
        None => return None,
        Some(source) if !source.is_crates_io() => return Some(format!("{whose} comes from {source}")),
        Some(_) => {}
    }
    let licence = package.license.as_deref().unwrap_or(NO_LICENCE);
    (!is_allowed(licence, &[])).then(|| format!("{whose} is under {licence}"))
}

/// True when one of the ways that a licence expression offers is made of allowed licences alone.
fn is_allowed(expression: &str, more: &[&str]) -> bool {
    let allowed = |name: &str| LICENCES.contains(&name) || more.contains(&name);
    Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(|expression| {
        expression.evaluate(|needs| needs.license.id().is_some_and(|id| allowed(id.name)))
    })
}

/// Crates of which what we ship has several versions that are not listed, and those that are listed and has not.
fn several_versions(metadata: &Metadata) -> Result<Vec<String>> {
    let resolve = metadata.resolve.as_ref().context("cargo resolved nothing")?;
    let mut left: Vec<&PackageId> = metadata
        .packages
        .iter()
        .filter(|package| SHIPPED.contains(&package.name.as_str()))
        .map(|package| &package.id)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = left.pop() {
        if seen.insert(id) {
            let node = resolve.nodes.iter().find(|node| node.id == *id);
            let needs = node.into_iter().flat_map(|node| &node.deps);
            let is_shipped = |kind: &cargo_metadata::DepKindInfo| kind.kind == DependencyKind::Normal;
            left.extend(needs.filter(|needs| needs.dep_kinds.iter().any(is_shipped)).map(|needs| &needs.pkg));
        }
    }
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for package in metadata.packages.iter().filter(|package| seen.contains(&package.id)) {
        versions.entry(package.name.as_str()).or_default().push(package.version.to_string());
    }
    versions.retain(|_, versions| versions.len() > 1);
    let listed = |name: &str| SEVERAL_VERSIONS.contains(&name);
    let new = versions.iter().filter(|(name, _)| !listed(name));
    let new =
        new.map(|(name, versions)| format!("{name} is shipped in the versions {}", versions.join(", ")));
    let gone = SEVERAL_VERSIONS.iter().filter(|name| !versions.contains_key(*name));
    let gone = gone.map(|name| format!("{name} is shipped in one version: take it off the list"));
    Ok(new.chain(gone).collect())
}

/// What is wrong in one of npm's lock files.
fn npm_problems(lock: &serde_json::Value) -> Vec<String> {
    let packages = lock["packages"].as_object().into_iter().flatten();
    let others = packages.filter(|(path, _)| !path.is_empty());
    others
        .filter_map(|(path, package)| {
            let is_tool = package["dev"] == true;
            let licence = package["license"].as_str().unwrap_or(NO_LICENCE);
            if package.get("resolved").is_some() {
                Some(format!("{path} names where it was fetched from"))
            } else if package.get("integrity").is_none() {
                Some(format!("{path} has no checksum"))
            } else if !is_allowed(licence, if is_tool { LICENCES_OF_TOOLS } else { &[] }) {
                Some(format!("{path} is under {licence}"))
            } else {
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_licence_is_allowed_when_one_of_its_ways_is() {
        for allowed in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"]
        {
            assert!(is_allowed(allowed, &[]), "{allowed}");
        }
        for refused in ["GPL-3.0-only", "MIT AND AGPL-3.0-only", "MPL-2.0", "", NO_LICENCE] {
            assert!(!is_allowed(refused, &[]), "{refused}");
        }
        assert!(is_allowed("MPL-2.0", LICENCES_OF_TOOLS));
    }

    #[test]
    fn a_crate_without_a_licence_or_under_another_one_or_from_elsewhere_is_named() {
        let metadata = MetadataCommand::new().manifest_path(workspace::path("Cargo.toml")).exec().unwrap();
        let mut package = metadata.packages.into_iter().find(|package| package.source.is_some()).unwrap();
        assert_eq!(problem_of(&package), None);
        for licence in [None, Some("GPL-3.0-only".to_owned())] {
            package.license = licence;
            assert!(problem_of(&package).is_some(), "{:?}", package.license);
        }
        package.license = Some("MIT".to_owned());
        assert_eq!(problem_of(&package), None);
        package.source = serde_json::from_value(json!("git+https://forge.example/a")).unwrap();
        assert!(problem_of(&package).is_some());
    }

    #[test]
    fn an_npm_package_without_a_checksum_or_with_an_address_or_under_another_licence_is_named() {
        let lock = json!({ "packages": {
            "": {},
            "fine": { "integrity": "sha512-x", "license": "MIT" },
            "tool": { "integrity": "sha512-x", "license": "MPL-2.0", "dev": true },
            "shipped": { "integrity": "sha512-x", "license": "MPL-2.0" },
            "fetched": { "integrity": "sha512-x", "license": "MIT", "resolved": "https://registry.example/x.tgz" },
            "unchecked": { "license": "MIT" },
        }});
        let problems = npm_problems(&lock);
        let named: Vec<&str> = problems.iter().filter_map(|problem| problem.split(' ').next()).collect();
        assert_eq!(named, ["fetched", "shipped", "unchecked"]);
    }
}
