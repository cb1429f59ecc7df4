use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::Cargo;

/// What `cargo metadata` says of the members, as far as the checks need it.
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
}

pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// Whether it may be published.
    pub(crate) published: bool,
    /// Without `default`.
    pub(crate) features: Vec<String>,
}

impl Workspace {
    pub(crate) fn read() -> Result<Self, String> {
        let json = Cargo::new("metadata --no-deps --format-version 1 --locked").output()?;
        Self::parse(&json)
    }

    fn parse(json: &str) -> Result<Self, String> {
        let json: Value =
            serde_json::from_str(json).map_err(|error| format!("cargo metadata: {error}"))?;
        let mut packages = json
            .get("packages")
            .and_then(Value::as_array)
            .ok_or("cargo metadata: no list of packages")?
            .iter()
            .map(Package::parse)
            .collect::<Option<Vec<_>>>()
            .ok_or("cargo metadata: a package without name or folder")?;
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { packages })
    }

    /// The packages under `crates/`.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &Package> {
        let folder = root().join("crates");
        self.packages
            .iter()
            .filter(move |package| package.folder.starts_with(&folder))
    }

    /// The crates that users get.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Package> {
        self.crates().filter(|package| package.published)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.packages.iter().any(|package| package.name == name)
    }
}

impl Package {
    fn parse(json: &Value) -> Option<Self> {
        let manifest = Path::new(json.get("manifest_path")?.as_str()?);
        let features = json.get("features")?.as_object()?;
        Some(Self {
            name: json.get("name")?.as_str()?.to_owned(),
            folder: manifest.parent()?.to_path_buf(),
            // Absent means any registry; a list names the registries, an empty one means none.
            published: json
                .get("publish")
                .and_then(Value::as_array)
                .is_none_or(|registries| !registries.is_empty()),
            features: features
                .keys()
                .filter(|name| *name != "default")
                .cloned()
                .collect(),
        })
    }

    /// The features that build wherever Rust does.
    pub(crate) fn buildable_features(&self) -> impl Iterator<Item = &str> {
        self.features
            .iter()
            .map(String::as_str)
            .filter(|name| !NEEDS_MORE_THAN_RUST.contains(name))
    }
}

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The validated module of aws-lc is built with Go and CMake.
const NEEDS_MORE_THAN_RUST: &[&str] = &["fips"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_with_features_and_whether_they_are_published() {
        let workspace = Workspace::parse(
            r#"{"packages": [
                {"name": "b", "manifest_path": "/r/b/Cargo.toml", "publish": [], "features": {}},
                {"name": "a", "manifest_path": "/r/a/Cargo.toml", "publish": null,
                 "features": {"default": ["x"], "x": [], "fips": []}}
            ]}"#,
        )
        .unwrap();
        let [a, b] = &workspace.packages[..] else {
            panic!("two packages")
        };
        assert_eq!(
            (&*a.name, a.published, &*a.folder),
            ("a", true, Path::new("/r/a"))
        );
        assert_eq!(a.features, ["fips", "x"]);
        assert_eq!(a.buildable_features().collect::<Vec<_>>(), ["x"]);
        assert!(!b.published);
    }

    #[test]
    fn an_answer_that_is_not_metadata_is_an_error() {
        assert!(Workspace::parse("{}").is_err());
    }
}
