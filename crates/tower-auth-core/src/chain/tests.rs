use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use super::*;
use crate::{Reason, Secret};

/// A source that gives these answers in turn, the last one again and again.
#[derive(Clone)]
struct Scripted(Arc<Script>);

struct Script {
    name: &'static str,
    answers: Mutex<VecDeque<Result<&'static str, ErrorKind>>>,
    presence: Presence,
    calls: AtomicUsize,
    origins: Vec<Origin>,
}

impl Scripted {
    fn new(
        name: &'static str,
        answers: impl IntoIterator<Item = Result<&'static str, ErrorKind>>,
    ) -> Self {
        Self(Arc::new(Script {
            name,
            answers: Mutex::new(answers.into_iter().collect()),
            presence: Presence::Unknown,
            calls: AtomicUsize::new(0),
            origins: Vec::new(),
        }))
    }

    fn change(mut self, change: impl FnOnce(&mut Script)) -> Self {
        change(Arc::get_mut(&mut self.0).unwrap());
        self
    }

    fn present(self, presence: Presence) -> Self {
        self.change(|script| script.presence = presence)
    }

    fn calls(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }
}

impl TokenSource for Scripted {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.0.answers.lock().unwrap();
        let answer = match answers.len() {
            1 => answers[0],
            _ => answers.pop_front().unwrap(),
        };
        answer.map(Token::bearer).map_err(|kind| {
            Error::new(kind, format!("{kind} says its script")).with_source_name(self.0.name)
        })
    }

    fn describe(&self) -> Description {
        let description = Description::new(self.0.name).with_setting("key", "KEY");
        let origins = self.0.origins.iter().cloned();
        origins.fold(description, Description::with_origin)
    }

    fn presence(&self) -> Presence {
        self.0.presence.clone()
    }
}

fn fetch<T: Credential>(source: &impl TokenSource<T>) -> Result<T, Error> {
    let cx = Fetch::new(Reason::First);
    let mut fetch = pin!(source.fetch(&cx));
    match fetch.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a scripted source answers at once"),
    }
}

fn text(source: &impl TokenSource) -> String {
    fetch(source).unwrap().secret().expose().to_owned()
}

fn statuses(chain: &Chain) -> Vec<&'static str> {
    let report = chain.report().unwrap();
    report
        .steps()
        .iter()
        .map(|step| step.status().as_str())
        .collect()
}

const ABSENT: Result<&str, ErrorKind> = Err(ErrorKind::NotConfigured);

fn missing(kind: ErrorKind) -> Presence {
    Presence::Missing(Error::new(kind, "KEY is missing"))
}

#[test]
fn the_first_that_is_configured_is_chosen() {
    let last = Scripted::new("c", [Ok("t3")]);
    let chain = Chain::new("chain")
        .or(Scripted::new("a", [ABSENT]))
        .or(Scripted::new("b", [Ok("t2")]))
        .or(last.clone());
    assert!(chain.report().is_none());
    assert_eq!(text(&chain), "t2");
    assert_eq!(statuses(&chain), ["not configured", "chosen", "not asked"]);
    assert_eq!(last.calls(), 0);
    let description = chain.describe();
    assert_eq!(description.to_string(), "b (key from KEY)");
    assert_eq!(description.chain().unwrap().chosen().unwrap().name(), "b");
}

#[test]
fn the_choice_is_kept_whatever_the_others_and_the_chosen_one_do() {
    let better = Scripted::new("a", [ABSENT, Ok("t1")]);
    let chain = Chain::new("chain").or(better.clone()).or(Scripted::new(
        "b",
        [Ok("t2"), Err(ErrorKind::NotConfigured), Ok("t3")],
    ));
    assert_eq!(text(&chain), "t2");
    let error = fetch(&chain).unwrap_err();
    assert_eq!(error.source_name(), Some("b"), "its failure is its own");
    assert_eq!(text(&chain), "t3");
    assert_eq!(better.calls(), 1);
}

#[test]
fn a_failure_of_one_that_is_configured_settles_the_choice() {
    for kind in [
        ErrorKind::Denied,
        ErrorKind::Unavailable,
        ErrorKind::Malformed,
    ] {
        let next = Scripted::new("b", [Ok("t2")]);
        let chain = Chain::new("chain")
            .or(Scripted::new("a", [Err(kind), ABSENT, Ok("t1")]))
            .or(next.clone());
        assert_eq!(fetch(&chain).unwrap_err().kind(), kind);
        assert_eq!(fetch(&chain).unwrap_err().kind(), ErrorKind::NotConfigured);
        assert_eq!(text(&chain), "t1");
        assert_eq!(next.calls(), 0, "{kind}");
    }
}

#[test]
fn fc_e01_a_variable_that_is_set_but_empty_is_reported_and_skipped() {
    let empty: Result<Token, Error> = Err(Error::new(
        ErrorKind::NotConfigured,
        "the environment variable KEY is set but empty",
    )
    .set_but_empty()
    .with_source_name("key"));
    let chain = Chain::new("chain")
        .or_if_configured(empty)
        .or(Scripted::new("b", [Ok("t2")]));
    assert_eq!(text(&chain), "t2");
    assert_eq!(statuses(&chain), ["set but empty", "chosen"]);
}

#[test]
fn fc_e02_every_mechanism_is_reported_and_those_that_are_shadowed_are_named() {
    let made: Result<_, Error> = Ok(Scripted::new("made", [Ok("t4")]));
    let chain = Chain::new("chain")
        .or(Scripted::new("a", [Ok("t1")]))
        .or(Scripted::new("b", [Ok("t2")]).present(Presence::Configured))
        .or(Scripted::new("c", [ABSENT]).present(missing(ErrorKind::NotConfigured)))
        .or(Scripted::new("d", [ABSENT]).present(missing(ErrorKind::InvalidConfig)))
        .or_if_configured(made)
        .or(Scripted::new("e", [Ok("t5")]));
    assert_eq!(text(&chain), "t1");
    assert_eq!(
        statuses(&chain),
        [
            "chosen",
            "shadowed",
            "not configured",
            "broken",
            "shadowed",
            "not asked"
        ]
    );
    let report = chain.report().unwrap();
    let shadowed: Vec<_> = report.shadowed().map(ChainStep::name).collect();
    assert_eq!(shadowed, ["b", "made"]);
    assert_eq!(
        report.to_string(),
        "\
a     chosen          key from KEY
b     shadowed        key from KEY
c     not configured  KEY is missing
d     broken          KEY is missing
made  shadowed        key from KEY
e     not asked       key from KEY"
    );
}

#[test]
fn fc_e03_a_strict_chain_refuses_to_choose_between_two() {
    let chain = Chain::new("chain")
        .or(Scripted::new("a", [Ok("t1")]))
        .or(Scripted::new("b", [Ok("t2")]).present(Presence::Configured))
        .strict();
    let error = fetch(&chain).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(
        error.to_string(),
        "chain: both a and b are configured, and only one may be"
    );
    assert_eq!(error.chain().unwrap().shadowed().count(), 1);
    let one = Chain::new("chain")
        .or(Scripted::new("a", [ABSENT]))
        .or(Scripted::new("b", [Ok("t2")]).present(Presence::Configured))
        .strict();
    assert_eq!(text(&one), "t2");
}

#[test]
fn fc_e04_a_half_configured_mechanism_stops_the_chain_with_its_own_error() {
    let next = Scripted::new("b", [Ok("t2")]);
    let chain = Chain::new("chain")
        .or(Scripted::new("a", [Err(ErrorKind::InvalidConfig), ABSENT]))
        .or(next.clone());
    let error = fetch(&chain).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(error.to_string(), "a: invalid config says its script");
    assert_eq!(statuses(&chain), ["broken", "not asked"]);
    assert!(error.chain().is_some());
    assert_eq!(next.calls(), 0);
    assert_eq!(
        text(&chain),
        "t2",
        "it was removed, so the next one is meant"
    );
}

#[test]
fn the_error_lists_every_mechanism_and_why() {
    let made: Result<Token, Error> =
        Err(Error::new(ErrorKind::NotConfigured, "K is not set").with_source_name("key"));
    let chain = Chain::new("my API")
        .or(Scripted::new("a", [ABSENT]))
        .or_if_configured(made);
    let error = fetch(&chain).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert_eq!(
        error.to_string(),
        "my API: nothing is configured: a (not configured says its script), key (K is not set)"
    );
    assert_eq!(error.chain().unwrap().steps().len(), 2);
    let empty: Chain = Chain::new("my API");
    assert_eq!(
        fetch(&empty).unwrap_err().to_string(),
        "my API: the chain has no sources"
    );
}

#[test]
fn chains_can_be_links_of_chains() {
    let inner = Chain::new("inner").or(Scripted::new("a", [ABSENT]));
    let chain = Chain::new("outer")
        .or(inner)
        .or(Chain::new("second").or(Token::bearer("t")));
    assert_eq!(text(&chain), "t");
    let Presence::Missing(error) = Chain::<Token>::new("none").presence() else {
        panic!("an empty chain is not configured")
    };
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
}

#[test]
fn two_first_fetches_at_the_same_time_end_with_one_identity() {
    /// Answers at the second poll, by which time the other fetch has been through.
    struct Late(Scripted);
    impl TokenSource for Late {
        async fn fetch(&self, cx: &Fetch) -> Result<Token, Error> {
            let answer = self.0.fetch(cx).await;
            let mut polled = false;
            std::future::poll_fn(|_| match std::mem::replace(&mut polled, true) {
                false if answer.is_err() => Poll::Pending,
                _ => Poll::Ready(()),
            })
            .await;
            answer
        }
        fn describe(&self) -> Description {
            self.0.describe()
        }
    }
    let chain = Chain::new("chain")
        .or(Late(Scripted::new("a", [ABSENT, Ok("t1")])))
        .or(Scripted::new("b", [Ok("t2")]));
    let cx = Fetch::new(Reason::First);
    let mut slow = pin!(chain.fetch(&cx));
    let mut task = Context::from_waker(Waker::noop());
    assert!(slow.as_mut().poll(&mut task).is_pending());
    assert_eq!(text(&chain), "t1");
    let Poll::Ready(Ok(token)) = slow.as_mut().poll(&mut task) else {
        panic!("the source has answered")
    };
    assert_eq!(token.secret().expose(), "t1");
    assert_eq!(statuses(&chain), ["chosen", "not asked"]);
}

#[test]
fn a_chain_names_the_origins_that_its_sources_agree_on() {
    let source = |origins: &[&str]| {
        let origins = origins
            .iter()
            .map(|origin| origin.parse().unwrap())
            .collect();
        Scripted::new("s", [ABSENT]).change(|script| script.origins = origins)
    };
    let check = |sources: &[&[&str]], expected: &[&str]| {
        let chain = sources
            .iter()
            .fold(Chain::new("c"), |chain, origins| chain.or(source(origins)));
        let named: Vec<_> = chain
            .describe()
            .origins()
            .iter()
            .map(Origin::to_string)
            .collect();
        assert_eq!(named, expected, "{sources:?}");
    };
    check(&[&[], &[]], &[]);
    check(&[&[], &["https://a.test"]], &["https://a.test"]);
    check(
        &[&["https://a.test", "https://b.test"], &["https://b.test"]],
        &["https://b.test"],
    );
    check(
        &[&["https://a.test"], &["https://b.test"]],
        &["https://a.test"],
    );
}

#[test]
fn another_kind_of_credential_can_be_chained() {
    struct Pair(Secret);
    impl Credential for Pair {
        fn expiry(&self) -> crate::Expiry {
            crate::Expiry::Never
        }
        fn fingerprint(&self) -> crate::Fingerprint {
            self.0.fingerprint()
        }
    }
    let chain = Chain::new("keys").or(crate::source_fn(|_cx: Fetch<Pair>| async {
        Ok(Pair(Secret::from("k")))
    }));
    assert_eq!(fetch(&chain).unwrap().0.expose(), "k");
    assert_eq!(
        format!("{chain:?}"),
        r#"Chain { name: "keys", sources: ["closure"], chosen: Some(0), strict: false, .. }"#
    );
}

#[test]
fn a_chain_with_answers_for_one_request_only_serves_one_request_only() {
    let shared = || Chain::new("chain").or(Scripted::new("a", [Ok("t")]));
    assert_eq!(shared().caching(), Caching::Shared);
    let own = crate::bearer_fn(|| async { Ok("t") }).per_request();
    assert_eq!(shared().or(own).caching(), Caching::PerRequest);
}
