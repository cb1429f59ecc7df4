use std::path::{Path, PathBuf};

use tower_auth_core::{Error, ErrorKind};
use tower_auth_io::{ReadRules, World};

use crate::vars;

/// The folders that may hold profiles, the first one first.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    pub(crate) folders: Vec<PathBuf>,
    /// Whether `ANTHROPIC_CONFIG_DIR` names it.
    pub(crate) is_named: bool,
}

impl Roots {
    pub(crate) fn of(world: &World) -> Result<Self, Error> {
        if let Some(folder) = vars::get(world, vars::CONFIG_DIR)? {
            return Ok(Self {
                folders: vec![PathBuf::from(folder)],
                is_named: true,
            });
        }
        let under = |variable: &str, rest: &[&str]| -> Result<Option<PathBuf>, Error> {
            let Some(folder) = vars::get(world, variable)? else {
                return Ok(None);
            };
            let mut folder = PathBuf::from(folder);
            folder.extend(rest);
            Ok(folder.is_absolute().then_some(folder))
        };
        let folders = if cfg!(windows) {
            match under("APPDATA", &["Anthropic"])? {
                Some(folder) => vec![folder],
                None => under("USERPROFILE", &["AppData", "Roaming", "Anthropic"])?
                    .into_iter()
                    .collect(),
            }
        } else {
            // The official clients differ: some look at the one, some at the other, some at both.
            let mut folders: Vec<PathBuf> = under("XDG_CONFIG_HOME", &["anthropic"])?
                .into_iter()
                .collect();
            if let Some(folder) = under("HOME", &[".config", "anthropic"])? {
                if !folders.contains(&folder) {
                    folders.push(folder);
                }
            }
            folders
        };
        Ok(Self {
            folders,
            is_named: false,
        })
    }

    /// The name in `active_config`, and the file it is in.
    pub(crate) async fn pointer(&self, world: &World) -> Result<Option<(String, PathBuf)>, Error> {
        for folder in &self.folders {
            let path = folder.join("active_config");
            let text = match world
                .files()
                .read_text_within(&path, ReadRules::up_to(4096).not_writable_by_others())
                .await
            {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotConfigured => continue,
                Err(error) => return Err(error),
            };
            let name = text.expose().trim();
            if !name.is_empty() {
                return Ok(Some((name.to_owned(), path)));
            }
        }
        Ok(None)
    }

    /// The folder that has a profile of this name.
    pub(crate) async fn find(&self, name: &str, world: &World) -> Result<Option<&Path>, Error> {
        check_name(name)?;
        for folder in &self.folders {
            let path = config_path(folder, name);
            let found = world.files().look(&path).await;
            if found.map_err(|error| error.about(&path))?.is_some() {
                return Ok(Some(folder));
            }
        }
        Ok(None)
    }

    /// Where it looks, in words.
    pub(crate) fn shown(&self) -> String {
        let folders: Vec<String> = self
            .folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        if folders.is_empty() {
            "no folder: there is no home".to_owned()
        } else {
            folders.join(" and ")
        }
    }
}

pub(crate) fn config_path(root: &Path, name: &str) -> PathBuf {
    root.join("configs").join(format!("{name}.json"))
}

pub(crate) fn credentials_path(root: &Path, name: &str) -> PathBuf {
    root.join("credentials").join(format!("{name}.json"))
}

/// A name must lead to a file in the folder and to no other.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let what = if name.is_empty() {
        "is empty"
    } else if name.trim() != name {
        "has white space at its ends"
    } else if name.starts_with('.') {
        "begins with a dot"
    } else if name.contains(['/', '\\', '\0']) {
        "has a character that separates folders"
    } else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::InvalidConfig,
        format!("the profile name {name:?} {what}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower_auth_io::MapEnv;

    #[test]
    fn c38_a_name_that_leads_elsewhere_is_refused() {
        for name in ["../x", ".x", " x", "a/b", "a\\b", "a\0b", "", "..", "x "] {
            let error = check_name(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name:?}");
        }
    }

    #[test]
    fn c39_a_name_with_a_space_inside_can_be_read() {
        check_name("a b$").unwrap();
        check_name("größe").unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn c37_the_xdg_folder_comes_before_the_home() {
        let roots = |variables: &[(&str, &str)]| {
            let env: MapEnv = variables.iter().copied().collect();
            Roots::of(&World::closed().with_env(env)).unwrap().shown()
        };
        assert_eq!(
            roots(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]),
            "/x/anthropic and /h/.config/anthropic"
        );
        assert_eq!(
            roots(&[("ANTHROPIC_CONFIG_DIR", "/c"), ("HOME", "/h")]),
            "/c"
        );
        assert_eq!(roots(&[]), "no folder: there is no home");
    }
}
