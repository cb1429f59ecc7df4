//! The scripted source does what its script says and remembers how it was asked.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tower_auth_core::{Caching, ErrorKind, Fetch, Reason, Token, TokenSource};
use tower_auth_testing::{Answer, Gate, Outcome, ScriptRanOut, ScriptedSource, fresh_tokens};

const SECOND: Duration = Duration::from_secs(1);

fn first() -> Fetch {
    Fetch::new(Reason::First)
}

#[tokio::test]
async fn a_script_that_has_run_out_says_which_call_was_too_many() {
    let source = ScriptedSource::new([Answer::token(Token::bearer("t"))]);
    source.fetch(&first()).await.unwrap();
    let error = source.fetch(&first()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert_eq!(error.source_name(), Some("scripted source"));
    let cause = error.source().unwrap().downcast_ref::<ScriptRanOut>();
    assert_eq!(cause.unwrap().call(), 2);
}

#[tokio::test]
async fn the_last_answer_is_repeated_where_the_script_says_so() {
    let source = ScriptedSource::new([
        Answer::token(Token::bearer("a")),
        Answer::error(ErrorKind::Denied),
    ])
    .then_repeat_last();
    assert!(source.fetch(&first()).await.is_ok());
    for _ in 0..3 {
        let error = source.fetch(&first()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
}

#[tokio::test]
async fn a_pushed_answer_comes_before_the_rule_for_the_rest() {
    let source = fresh_tokens(SECOND);
    source.push(Answer::error(ErrorKind::Unavailable));
    assert!(source.fetch(&first()).await.is_err());
    let token = source.fetch(&first()).await.unwrap();
    assert_eq!(token.secret().expose(), "canary-5eC7eT-token-2");
}

#[tokio::test]
async fn an_empty_script_cannot_repeat_its_last_answer() {
    let source = ScriptedSource::<Token>::new([]).then_repeat_last();
    assert!(source.fetch(&first()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_delayed_answer_takes_exactly_its_time() {
    let source = ScriptedSource::new([Answer::token(Token::bearer("t")).after(SECOND * 7)]);
    let began = Instant::now();
    source.fetch(&first()).await.unwrap();
    assert_eq!(began.elapsed(), SECOND * 7);
    assert_eq!(source.last_call().at(), began);
}

#[tokio::test]
async fn what_the_source_was_told_is_recorded() {
    let source = fresh_tokens(SECOND);
    let cx = Fetch::new(Reason::Rejected)
        .with_previous(Arc::new(Token::bearer("old")))
        .with_challenge("Bearer error=\"invalid_token\"")
        .with_claims("{}")
        .with_timeout(SECOND * 3)
        .with_min_remaining(SECOND * 2);
    source.fetch(&cx).await.unwrap();
    let call = source.last_call();
    assert_eq!(call.reason(), Reason::Rejected);
    assert_eq!(call.challenge(), Some("Bearer error=\"invalid_token\""));
    assert_eq!(call.claims(), Some("{}"));
    assert_eq!(call.timeout(), SECOND * 3);
    assert_eq!(call.min_remaining(), SECOND * 2);
    assert!(call.has_previous());
    assert_eq!(call.outcome(), Outcome::Answered);
}

#[tokio::test]
async fn a_dropped_fetch_is_told_from_an_answered_one() {
    let source = ScriptedSource::new([Answer::hang(), Answer::token(Token::bearer("t"))]);
    let hanging = tokio::spawn({
        let source = source.clone();
        async move { source.fetch(&first()).await.is_ok() }
    });
    source.called(1).await;
    assert_eq!(source.in_flight(), 1);
    assert_eq!(source.last_call().outcome(), Outcome::Running);
    hanging.abort();
    assert!(hanging.await.unwrap_err().is_cancelled());
    assert_eq!(source.in_flight(), 0);
    assert_eq!(source.last_call().outcome(), Outcome::Dropped);
    source.fetch(&first()).await.unwrap();
    assert_eq!(source.max_in_flight(), 1);
}

#[tokio::test]
async fn a_panicking_fetch_is_no_longer_in_flight() {
    let source = ScriptedSource::<Token>::new([Answer::panic("boom")]);
    let fetch = tokio::spawn({
        let source = source.clone();
        async move { source.fetch(&first()).await.is_ok() }
    });
    let payload = fetch.await.unwrap_err().into_panic();
    assert_eq!(payload.downcast_ref::<String>().unwrap(), "boom");
    assert_eq!(source.in_flight(), 0);
}

#[tokio::test]
async fn fetches_behind_one_gate_are_counted_as_simultaneous() {
    let gate = Gate::new();
    let source = ScriptedSource::from_rule({
        let gate = gate.clone();
        move |_| Answer::token(Token::bearer("t")).behind(&gate)
    });
    let fetches: Vec<_> = (0..3)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { source.fetch(&first()).await.is_ok() })
        })
        .collect();
    gate.reached_by(3).await;
    assert_eq!(source.in_flight(), 3);
    gate.open();
    for fetch in fetches {
        assert!(fetch.await.unwrap());
    }
    assert_eq!(source.max_in_flight(), 3);
    assert_eq!(source.in_flight(), 0);
}

#[tokio::test]
async fn a_closed_gate_holds_up_only_those_who_come_later() {
    let gate = Gate::new();
    gate.open();
    gate.pass().await;
    gate.close();
    let waiting = tokio::spawn({
        let gate = gate.clone();
        async move { gate.pass().await }
    });
    gate.reached_by(2).await;
    assert!(!waiting.is_finished());
    gate.open();
    waiting.await.unwrap();
}

#[test]
fn per_request_is_passed_on() {
    assert_eq!(fresh_tokens(SECOND).caching(), Caching::Shared);
    assert_eq!(
        fresh_tokens(SECOND).per_request().caching(),
        Caching::PerRequest
    );
}

#[test]
fn debug_of_a_script_shows_no_token() {
    let answer = Answer::token(Token::bearer("canary-1"));
    assert!(!format!("{answer:?}").contains("canary"));
}
