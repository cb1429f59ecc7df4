use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tower_auth_core::{
    Description, Error, ErrorKind, Fetch, Fingerprint, Secret, Token, TokenSource,
};
use tower_auth_io::World;

use crate::assertion::Assertion;
use crate::base_url::BaseUrl;
use crate::identity_token::IdentityToken;
use crate::seen::{Fate, Seen};
use crate::text;
use crate::token_endpoint::{Answer, TokenEndpoint};
use crate::vars;

/// Exchanges the identity token of a workload for a short-lived Claude token: workload identity
/// federation, by the JWT bearer grant (RFC 7523 section 2.1).
///
/// The source of the identity token is asked at every exchange and must not be behind a token cache: an
/// identity token that has an id (`jti`) can be exchanged once. One that was accepted is never sent
/// again; if its source gives it again, that is an error with the code
/// [`ASSERTION_REUSED`](Self::ASSERTION_REUSED), and the cache goes on with the token it has and asks
/// again a little later.
///
/// ```
/// use tower_auth_claude::Federation;
/// use tower_auth_io::{TokenFile, World};
///
/// # fn main() -> Result<(), tower_auth_core::Error> {
/// # let world = World::closed();
/// let identity = TokenFile::new("/var/run/secrets/anthropic.com/token")?;
/// let source = Federation::new(
///     "fdrl_01H",
///     "00000000-0000-0000-0000-000000000000",
///     identity,
///     &world,
/// )?
/// .with_service_account("svac_01H")?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
pub struct Federation<S> {
    subject: S,
    ids: Ids,
    base: BaseUrl,
    endpoint: TokenEndpoint,
    description: Description,
    seen: Arc<Mutex<Seen>>,
}

/// What is exchanged against, besides the identity token.
#[derive(Clone, Debug)]
struct Ids {
    rule: String,
    organization: String,
    service_account: Option<String>,
    workspace: Option<String>,
}

impl<S: TokenSource> Federation<S> {
    /// The [`code`](Error::code) of the error that an identity token is there but has been used up.
    pub const ASSERTION_REUSED: &'static str = "assertion_reused";

    /// Exchanges what `subject` gives by this federation rule (`fdrl_…`) of this organization (a UUID), at
    /// <https://api.anthropic.com>. No variable is read.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig), naming the setting, if an id is blank, has a character
    /// that no id has, or is an id of something else.
    pub fn new(
        rule_id: &str,
        organization_id: &str,
        subject: S,
        world: &World,
    ) -> Result<Self, Error> {
        let ids = Ids {
            rule: id("the federation rule id", rule_id, Some("fdrl_"))?,
            organization: id("the organization id", organization_id, None)?,
            service_account: None,
            workspace: None,
        };
        let base = BaseUrl::standard()?;
        let description =
            Description::new(NAME).with_setting("identity token", origin_of(&subject.describe()));
        Ok(Self {
            endpoint: TokenEndpoint::new(base.token_endpoint()?, world),
            subject,
            ids,
            base,
            description,
            seen: Arc::default(),
        })
    }

    /// The service account (`svac_…`) that the token acts as. Rules whose target is a service account
    /// want it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_service_account(mut self, service_account_id: &str) -> Result<Self, Error> {
        self.ids.service_account = Some(id(
            "the service account id",
            service_account_id,
            Some("svac_"),
        )?);
        Ok(self)
    }

    /// The workspace (`wrkspc_…`, or `default`) that the token is bound to, where the rule allows
    /// several.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_workspace(mut self, workspace_id: &str) -> Result<Self, Error> {
        self.ids.workspace = Some(id("the workspace id", workspace_id, Some("wrkspc_"))?);
        Ok(self)
    }

    /// Exchanges at, and sends the token to, the API at this URL. A path in it is kept.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is neither `https` nor `http` to this machine.
    pub fn with_base_url(self, url: &str) -> Result<Self, Error> {
        let base = BaseUrl::parse("the base URL", url).map_err(named)?;
        self.at(base)
    }

    pub(crate) fn at(mut self, base: BaseUrl) -> Result<Self, Error> {
        let world = self.endpoint.world().clone();
        self.endpoint = TokenEndpoint::new(base.token_endpoint().map_err(named)?, &world);
        self.base = base;
        Ok(self)
    }

    /// Says where a setting came from.
    pub(crate) fn with_setting(
        mut self,
        setting: &'static str,
        from: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        self.description = self.description.with_setting(setting, from);
        self
    }

    async fn exchange(&self, cx: &Fetch) -> Result<Token, Error> {
        let assertion = self.assertion(cx).await?;
        let look = Assertion::look_at(&assertion);
        let name = assertion.fingerprint();
        let before = self.note(name, None);
        if before == Some(Fate::Accepted) && look.is_single_use() {
            return Err(self.reused());
        }
        let answer = self.ask(&assertion).await.map_err(|error| {
            if error.kind() == ErrorKind::Denied {
                self.note(name, Some(Fate::Refused));
            }
            self.with_advice(error, &look, before)
        })?;
        self.note(name, Some(Fate::Accepted));
        if answer.expiry.is_none() {
            return Err(self
                .endpoint
                .malformed("the answer does not say how long the token lives (expires_in)"));
        }
        Ok(answer.token)
    }

    async fn assertion(&self, cx: &Fetch) -> Result<Secret, Error> {
        let token = self.subject.fetch(&cx.for_subject()).await?;
        let invalid = |what: String| {
            Error::new(
                ErrorKind::Malformed,
                format!(
                    "the identity token from the {} {what}",
                    self.subject.describe().name()
                ),
            )
        };
        let text = token.secret().expose();
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(invalid("is blank".to_owned()));
        }
        if trimmed.len() > MAX_ASSERTION {
            return Err(invalid(format!(
                "is {} bytes long, at most {MAX_ASSERTION} are accepted",
                trimmed.len()
            )));
        }
        if let Some((position, what)) = text::first_flaw(trimmed) {
            return Err(invalid(format!("has {what} at character {position}")));
        }
        Ok(if trimmed.len() == text.len() {
            token.secret().clone()
        } else {
            Secret::from(trimmed)
        })
    }

    async fn ask(&self, assertion: &Secret) -> Result<Answer, Error> {
        let body = Body {
            grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer",
            assertion: assertion.expose(),
            federation_rule_id: &self.ids.rule,
            organization_id: &self.ids.organization,
            service_account_id: self.ids.service_account.as_deref(),
            workspace_id: self.ids.workspace.as_deref(),
        };
        let response = self.endpoint.send(&body, FEDERATION_BETA).await?;
        self.endpoint.read(response, &[assertion])
    }

    /// A refusal says next to nothing on purpose, so what this side knows is added.
    fn with_advice(&self, error: Error, look: &Assertion, before: Option<Fate>) -> Error {
        let is_refusal = error.status().is_some_and(|status| status == 401)
            || error.code() == Some("invalid_grant");
        if error.kind() != ErrorKind::Denied || !is_refusal {
            return error;
        }
        let mut advice = Vec::new();
        if look.is_single_use() && before == Some(Fate::Unanswered) {
            advice.push(
                "the identity token was sent once before without an answer and may count as used"
                    .to_owned(),
            );
        }
        advice.extend(look.likely_flaw(self.endpoint.world().clock().now()));
        advice.push(format!(
            "check that rule {} of organization {} matches the token's iss, sub and aud and is not archived",
            self.ids.rule, self.ids.organization
        ));
        advice.push(match &self.ids.workspace {
            Some(workspace) => format!("that it allows workspace {workspace}"),
            None => "if it allows several workspaces, name one (ANTHROPIC_WORKSPACE_ID or with_workspace)"
                .to_owned(),
        });
        if look.is_single_use() {
            advice.push(
                "another program may have exchanged the identity token, which has an id (jti) and is good for one exchange"
                    .to_owned(),
            );
        }
        advice.push("the Console shows the reason under Workload identity".to_owned());
        error.with_hint(advice.join("; "))
    }

    fn reused(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "the {} gave an identity token that has been exchanged already, and one with an id (jti) can be exchanged once",
                self.subject.describe().name()
            ),
        )
        .with_code(Self::ASSERTION_REUSED)
        .with_hint(
            "wait for its source to replace it, let the source issue one for each exchange, \
             or switch check_jti off for the issuer in the Console",
        )
    }

    /// Remembers what became of an identity token, and tells what was known of it before.
    fn note(&self, name: Fingerprint, fate: Option<Fate>) -> Option<Fate> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .note(name, fate)
    }
}

impl Federation<IdentityToken> {
    /// What the variables say: `ANTHROPIC_FEDERATION_RULE_ID`, `ANTHROPIC_ORGANIZATION_ID` and an
    /// [`IdentityToken`], which are needed, `ANTHROPIC_SERVICE_ACCOUNT_ID`, `ANTHROPIC_WORKSPACE_ID` and
    /// `ANTHROPIC_BASE_URL`, which are not. One that is empty or blank counts as not set.
    ///
    /// # Errors
    /// [`NotConfigured`](ErrorKind::NotConfigured) if none of those that are needed is set,
    /// [`InvalidConfig`](ErrorKind::InvalidConfig), naming the others, if only some are; otherwise as
    /// [`new`](Self::new).
    pub fn from_env(world: &World) -> Result<Self, Error> {
        Self::read_env(world).map_err(named)
    }

    fn read_env(world: &World) -> Result<Self, Error> {
        let rule = vars::get(world, vars::FEDERATION_RULE_ID)?;
        let organization = vars::get(world, vars::ORGANIZATION_ID)?;
        let subject = match IdentityToken::from_env(world) {
            Ok(subject) => Some(subject),
            Err(error) if error.kind() == ErrorKind::NotConfigured => None,
            Err(error) => return Err(error),
        };
        let (Some(rule), Some(organization), Some(subject)) = (&rule, &organization, &subject)
        else {
            let wanted = [
                (vars::FEDERATION_RULE_ID, rule.is_some()),
                (vars::ORGANIZATION_ID, organization.is_some()),
                (
                    "ANTHROPIC_IDENTITY_TOKEN_FILE or ANTHROPIC_IDENTITY_TOKEN",
                    subject.is_some(),
                ),
            ];
            return Err(incomplete(&wanted));
        };
        let mut source = Self::new(rule, organization, subject.clone(), world)?
            .with_setting("rule", vars::FEDERATION_RULE_ID)
            .with_setting("organization", vars::ORGANIZATION_ID)
            .at(vars::base_url(world)?)?;
        if let Some(account) = vars::get(world, vars::SERVICE_ACCOUNT_ID)? {
            source = source
                .with_service_account(&account)?
                .with_setting("service account", vars::SERVICE_ACCOUNT_ID);
        }
        if let Some(workspace) = vars::get(world, vars::WORKSPACE_ID)? {
            source = source
                .with_workspace(&workspace)?
                .with_setting("workspace", vars::WORKSPACE_ID);
        }
        Ok(source)
    }
}

impl<S: TokenSource> TokenSource for Federation<S> {
    async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
        self.exchange(cx).await.map_err(named)
    }

    fn describe(&self) -> Description {
        text::with_prefixes(self.description.clone()).with_origin(self.base.origin().clone())
    }
}

/// Clones remember the same identity tokens.
impl<S: Clone> Clone for Federation<S> {
    fn clone(&self) -> Self {
        Self {
            subject: self.subject.clone(),
            ids: self.ids.clone(),
            base: self.base.clone(),
            endpoint: self.endpoint.clone(),
            description: self.description.clone(),
            seen: Arc::clone(&self.seen),
        }
    }
}

impl<S> fmt::Debug for Federation<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Federation")
            .field("ids", &self.ids)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// Where the identity token comes from: a path or a variable rather than the name of what reads it.
fn origin_of(subject: &Description) -> String {
    match subject.settings().next() {
        Some((_, from)) => from.to_owned(),
        None => subject.name().to_owned(),
    }
}

/// The names are exact: the server drops what it does not know.
#[derive(Serialize)]
struct Body<'a> {
    grant_type: &'static str,
    assertion: &'a str,
    federation_rule_id: &'a str,
    organization_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_account_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_id: Option<&'a str>,
}

fn incomplete(wanted: &[(&str, bool)]) -> Error {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(_, is_set)| !is_set)
        .map(|(name, _)| *name)
        .collect();
    let kind = if missing.len() == wanted.len() {
        ErrorKind::NotConfigured
    } else {
        ErrorKind::InvalidConfig
    };
    Error::new(kind, format!("not set: {}", missing.join(", ")))
}

/// An id as it is sent. One that visibly names another thing is refused here, where it can be said which.
fn id(setting: &str, text: &str, own: Option<&str>) -> Result<String, Error> {
    let id = text::identifier(setting, text).map_err(named)?;
    let other = [
        ("fdrl_", "a federation rule"),
        ("svac_", "a service account"),
        ("wrkspc_", "a workspace"),
    ]
    .into_iter()
    .find(|(prefix, _)| id.starts_with(prefix) && Some(*prefix) != own);
    match other {
        Some((_, what)) => Err(named(Error::new(
            ErrorKind::InvalidConfig,
            format!("{setting} is the id of {what}"),
        ))),
        None => Ok(id),
    }
}

fn named(error: Error) -> Error {
    error.or_source(NAME)
}

const NAME: &str = "claude federation";
/// The second value has the request handled as a federation.
const FEDERATION_BETA: &str = "oauth-2025-04-20,oidc-federation-2026-04-01";
const MAX_ASSERTION: usize = 16 * 1024;
