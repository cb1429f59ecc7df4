use std::time::Duration;

use tower_auth_core::{
    BoxTokenSource, Credential, Error, ErrorKind, Expiry, Fetch, Reason, Secret, Token, TokenSource,
};
use tower_auth_io::World;

use crate::Assertion;

/// What a proof or a grant is made for.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) world: &'a World,
    /// The URL of the token endpoint, as the audience of assertions.
    pub(crate) audience: &'a str,
}

/// A token that is sent to the issuer as a field of the form.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    /// Somebody else's.
    Source(BoxTokenSource),
    /// Signed here.
    Signed(Box<Assertion>),
}

/// A text, and whether it came from elsewhere.
pub(crate) struct Given {
    pub(crate) text: Secret,
    pub(crate) is_external: bool,
}

impl Subject {
    pub(crate) async fn give(
        &self,
        cx: &Fetch,
        scene: &Scene<'_>,
        field: &'static str,
    ) -> Result<Given, Error> {
        Ok(match self {
            Self::Source(source) => Given {
                text: ask(source, cx, scene, field).await?,
                is_external: true,
            },
            Self::Signed(assertion) => Given {
                text: assertion.sign(scene.world, scene.audience)?,
                is_external: false,
            },
        })
    }
}

/// Asks a source for the text of a field. One that is about to run out is asked again, by name: it may
/// have handed on something it was given earlier.
pub(crate) async fn ask(
    source: &BoxTokenSource,
    cx: &Fetch,
    scene: &Scene<'_>,
    field: &'static str,
) -> Result<Secret, Error> {
    let wanted = cx.min_remaining().max(LEAST_REMAINING);
    let asked = cx.for_subject().with_min_remaining(wanted);
    let mut token = source.fetch(&asked).await?;
    if !cx.must_be_new() && remaining(&token, scene.world).is_some_and(|left| left < wanted) {
        let again = again(cx, Reason::Forced).for_subject();
        if let Ok(fresh) = source.fetch(&again.with_min_remaining(wanted)).await {
            token = fresh;
        }
    }
    let text = token.secret();
    if text.is_blank() {
        return Err(Error::new(
            ErrorKind::Malformed,
            format!("{} gave a blank {field}", source.describe().name()),
        ));
    }
    Ok(text.clone())
}

/// The same request for another reason.
pub(crate) fn again(cx: &Fetch, reason: Reason) -> Fetch {
    Fetch::new(reason)
        .with_min_remaining(cx.min_remaining())
        .with_timeout(cx.timeout())
}

fn remaining(token: &Token, world: &World) -> Option<Duration> {
    match token.expiry() {
        Expiry::In(left) => Some(left),
        Expiry::At(end) => Some(end.duration_since(world.clock().now()).unwrap_or_default()),
        _ => None,
    }
}

/// How long a token that is sent to an issuer should live on: it has to arrive, and clocks differ.
const LEAST_REMAINING: Duration = Duration::from_secs(60);
