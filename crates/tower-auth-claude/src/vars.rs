//! The environment variables that the official clients read.

use tower_auth_core::Error;
use tower_auth_io::{Env, Lookup, World};

use crate::base_url::BaseUrl;

pub(crate) const API_KEY: &str = "ANTHROPIC_API_KEY";
pub(crate) const AUTH_TOKEN: &str = "ANTHROPIC_AUTH_TOKEN";
pub(crate) const BASE_URL: &str = "ANTHROPIC_BASE_URL";
pub(crate) const PROFILE: &str = "ANTHROPIC_PROFILE";
pub(crate) const CONFIG_DIR: &str = "ANTHROPIC_CONFIG_DIR";
pub(crate) const FEDERATION_RULE_ID: &str = "ANTHROPIC_FEDERATION_RULE_ID";
pub(crate) const ORGANIZATION_ID: &str = "ANTHROPIC_ORGANIZATION_ID";
pub(crate) const SERVICE_ACCOUNT_ID: &str = "ANTHROPIC_SERVICE_ACCOUNT_ID";
pub(crate) const WORKSPACE_ID: &str = "ANTHROPIC_WORKSPACE_ID";
pub(crate) const IDENTITY_TOKEN_FILE: &str = "ANTHROPIC_IDENTITY_TOKEN_FILE";
pub(crate) const IDENTITY_TOKEN: &str = "ANTHROPIC_IDENTITY_TOKEN";

/// What a variable holds, where white space only counts as nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Var {
    Absent,
    Empty,
    Blank,
    /// Without the white space at its ends.
    Set(String),
}

impl Var {
    /// # Errors
    /// If it is set to something that cannot be meant: quotation marks, no Unicode.
    pub(crate) fn read(env: &dyn Env, name: &str) -> Result<Self, Error> {
        if env
            .raw(name)
            .and_then(|raw| raw.into_string().ok())
            .is_some_and(|text| !text.is_empty() && text.trim().is_empty())
        {
            return Ok(Self::Blank);
        }
        Ok(match env.lookup(name)? {
            Lookup::Set(text) => Self::Set(text),
            Lookup::SetButEmpty => Self::Empty,
            _ => Self::Absent,
        })
    }

    pub(crate) fn set(self) -> Option<String> {
        match self {
            Self::Set(text) => Some(text),
            Self::Absent | Self::Empty | Self::Blank => None,
        }
    }
}

/// A variable's value; empty and blank are nothing.
pub(crate) fn get(world: &World, name: &str) -> Result<Option<String>, Error> {
    Ok(Var::read(&**world.env(), name)?.set())
}

pub(crate) fn base_url(world: &World) -> Result<BaseUrl, Error> {
    match get(world, BASE_URL)? {
        Some(url) => BaseUrl::parse(BASE_URL, &url),
        None => BaseUrl::standard(),
    }
}
