use std::fmt;
use std::path::PathBuf;

use tower_auth_io::World;

/// Traces of a login to Claude Code. They are looked for and never read: that login is for the `claude`
/// program and no credential of this crate's. [`ClaudeCli`](crate::ClaudeCli) runs that program.
///
/// On macOS the login is in the keychain, which is not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClaudeLogin {
    /// `CLAUDE_CODE_OAUTH_TOKEN` is set.
    Variable,
    /// The file in which Claude Code keeps its login is there.
    File,
}

impl ClaudeLogin {
    /// What there is on this machine: whether a variable is set, whether a file exists.
    pub async fn detect(world: &World) -> Option<Self> {
        let set = |name: &str| world.env().raw(name).filter(|value| !value.is_empty());
        if set("CLAUDE_CODE_OAUTH_TOKEN").is_some() {
            return Some(Self::Variable);
        }
        let folder = match set("CLAUDE_CONFIG_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => {
                let home = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
                PathBuf::from(set(home)?).join(".claude")
            }
        };
        let path = folder.join(".credentials.json");
        let found = world.files().look(&path).await;
        matches!(found, Ok(Some(facts)) if facts.len > 0).then_some(Self::File)
    }
}

impl fmt::Display for ClaudeLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Variable => "CLAUDE_CODE_OAUTH_TOKEN is set",
            Self::File => "somebody is logged in to Claude Code here",
        })?;
        f.write_str(
            "; that is a credential of the claude program and not of the API, so it is neither read nor sent: \
             make an API key, set up a federation, run `ant auth login`, or let the claude program do the work",
        )
    }
}
