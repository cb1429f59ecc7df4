//! Which way dependencies may point. Every package under `crates/` is checked; one that the rules do not
//! name is taken to be a provider.

use crate::command::Cargo;
use crate::report::Outcome;
use crate::steps::Context;

pub(crate) fn check(context: &Context) -> Outcome {
    let mut failures = Vec::new();
    let ours: Vec<&str> = context.workspace.crates().map(|c| &*c.name).collect();
    for &name in &ours {
        let tree = Cargo::new("tree --edges normal --prefix depth --target all --all-features")
            .arg("--locked")
            .arg("--package")
            .arg(name)
            .output()
            .and_then(|text| parse(&text));
        match tree {
            Ok(tree) => {
                println!("{name}: {} dependencies", distinct(&tree));
                failures.extend(violations(name, &tree, &ours));
            }
            Err(error) => failures.push(error),
        }
    }
    Outcome::of_failures(failures)
}

/// A package and those that brought it in, the root first, itself last.
type Path = Vec<String>;

/// Reads `cargo tree --prefix depth`: the depth, directly followed by the package's name.
fn parse(text: &str) -> Result<Vec<Path>, String> {
    let mut path: Path = Vec::new();
    let mut paths = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let digits = line.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        let (depth, rest) = line.split_at(digits);
        let (Ok(depth), Some(name)) = (depth.parse::<usize>(), rest.split_whitespace().next())
        else {
            return Err(format!("cargo tree: this line was not understood: {line}"));
        };
        path.truncate(depth);
        path.push(name.to_owned());
        paths.push(path.clone());
    }
    Ok(paths)
}

fn violations(name: &str, tree: &[Path], ours: &[&str]) -> Vec<String> {
    let mut failures: Vec<String> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for path in tree.iter().filter(|path| path.len() > 1) {
        let Some(package) = path.last() else { continue };
        let direct = path.len() == 2;
        let why = if name == CORE && !CORE_MAY_HAVE.contains(&&**package) {
            "the contract has http and zeroize, and what they need, only"
        } else if ours.contains(&&**package) && !may_use(name).contains(&&**package) {
            "this edge between our crates is not in the design"
        } else if NOWHERE.contains(&&**package) {
            "this package is in no crate of ours"
        } else if direct && NETWORK.contains(&&**package) && !may_touch_network(name) {
            "the network is reached through tower-auth-io"
        } else {
            continue;
        };
        if !seen.contains(&&**package) {
            seen.push(package);
            failures.push(format!("{}: {why}", path.join(" -> ")));
        }
    }
    failures
}

/// The crates of ours that a crate may have, directly or not.
fn may_use(name: &str) -> &'static [&'static str] {
    match name {
        CORE => &[],
        "tower-auth" | IO => &[CORE],
        OAUTH | "tower-auth-workload" => &[CORE, IO],
        TESTING => &[CORE, IO, "tower-auth"],
        _ => &[CORE, IO, OAUTH],
    }
}

fn may_touch_network(name: &str) -> bool {
    [IO, TESTING].contains(&name)
}

fn distinct(tree: &[Path]) -> usize {
    let mut names: Vec<_> = tree.iter().skip(1).filter_map(|path| path.last()).collect();
    names.sort();
    names.dedup();
    names.len()
}

const CORE: &str = "tower-auth-core";
const IO: &str = "tower-auth-io";
const OAUTH: &str = "tower-auth-oauth";
const TESTING: &str = "tower-auth-testing";

/// `bytes` and `itoa` are what `http` is made of.
const CORE_MAY_HAVE: &[&str] = &["http", "bytes", "itoa", "zeroize"];

/// One crypto library, and no second HTTP client.
const NOWHERE: &[&str] = &["openssl-sys", "native-tls", "ring", "reqwest"];

const NETWORK: &[&str] = &["hyper", "hyper-util", "hyper-rustls", "tokio-rustls"];

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &[&str] = &[
        CORE,
        IO,
        OAUTH,
        "tower-auth",
        "tower-auth-okta",
        "tower-auth-new",
    ];

    fn check(name: &str, dependencies: &str) -> Vec<String> {
        let text = format!("0{name} v0.1.0 (/r/{name})\n{dependencies}");
        violations(name, &parse(&text).unwrap(), OURS)
    }

    #[test]
    fn the_path_to_a_package_is_read() {
        let text = "0a v1.0.0 (/r/a)\n1b v2.0.0\n2c v3.0.0 (*)\n1d v1.0.0 (proc-macro)\n";
        let paths: Vec<_> = parse(text).unwrap().iter().map(|p| p.join("/")).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/d"]);
    }

    #[test]
    fn a_line_without_a_depth_is_an_error() {
        assert!(parse("a v1.0.0").is_err());
    }

    #[test]
    fn the_contract_may_have_nothing_else() {
        assert_eq!(
            check(CORE, "1http v1.5.0\n2bytes v1.0.0\n2itoa v1.0.0"),
            [""; 0]
        );
        assert_eq!(
            check(CORE, "1http v1.5.0\n2fnv v1.0.0"),
            [
                "tower-auth-core -> http -> fnv: the contract has http and zeroize, and what they need, only"
            ]
        );
    }

    #[test]
    fn a_crate_the_rules_do_not_name_is_a_provider() {
        assert_eq!(check("tower-auth-new", "1tower-auth-oauth v0.1.0"), [""; 0]);
        for edge in ["tower-auth", "tower-auth-okta"] {
            assert_eq!(
                check("tower-auth-new", &format!("1{edge} v0.1.0")),
                [format!(
                    "tower-auth-new -> {edge}: this edge between our crates is not in the design"
                )]
            );
        }
    }

    #[test]
    fn the_product_depends_on_neither_provider_nor_io() {
        assert_eq!(check("tower-auth", "1tower-auth-okta v0.1.0").len(), 1);
        assert_eq!(check("tower-auth", "1tower-auth-io v0.1.0").len(), 1);
        assert_eq!(check("tower-auth", "1tower-auth-core v0.1.0"), [""; 0]);
    }

    #[test]
    fn a_second_crypto_library_is_refused_however_deep() {
        let found = check(
            IO,
            "1rustls v0.23.0\n2ring v0.17.0\n1rustls-webpki v0.1.0\n2ring v0.17.0",
        );
        assert_eq!(
            found,
            ["tower-auth-io -> rustls -> ring: this package is in no crate of ours"]
        );
    }

    #[test]
    fn a_provider_reaches_the_network_through_io() {
        assert_eq!(check("tower-auth-okta", "1hyper v1.0.0").len(), 1);
        let through_io = "1tower-auth-io v0.1.0\n2hyper v1.0.0";
        assert_eq!(check("tower-auth-okta", through_io), [""; 0]);
    }
}
