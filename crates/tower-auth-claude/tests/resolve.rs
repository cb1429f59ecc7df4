//! Which credential is used where several, half or none are there, and what the report says of it.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::json;
use support::minted;
use tower_auth_claude::{ApiKey, ClaudeLogin, Mechanism, Note, Resolution, State, resolve};
use tower_auth_core::{Error, ErrorKind, Fetch, Reason, Token, TokenSource};
use tower_auth_io::{MapEnv, MemoryFiles};
use tower_auth_testing::{Canary, FakeEndpoint, LeakGuard};

const FED: [(&str, &str); 3] = [
    ("ANTHROPIC_FEDERATION_RULE_ID", "fdrl_1"),
    ("ANTHROPIC_ORGANIZATION_ID", "org"),
    ("ANTHROPIC_IDENTITY_TOKEN", "ey.lit.jwt"),
];
const KEY: (&str, &str) = ("ANTHROPIC_API_KEY", "k");
const TOKEN: (&str, &str) = ("ANTHROPIC_AUTH_TOKEN", "t");
const ROOT: &str = "/home/.config/anthropic";

fn disk() -> MemoryFiles {
    MemoryFiles::new()
}

/// A profile of a login whose access token is the profile's name.
fn with_profile(files: MemoryFiles, name: &str) -> MemoryFiles {
    let config =
        json!({"version": "1.0", "authentication": {"type": "user_oauth", "client_id": "c"}});
    let credentials = json!({
        "version": "1.0", "type": "oauth_token", "access_token": name,
        "expires_at": 4_000_000_000_u64, "refresh_token": "r",
    });
    files
        .with(format!("{ROOT}/configs/{name}.json"), config.to_string())
        .with(
            format!("{ROOT}/credentials/{name}.json"),
            credentials.to_string(),
        )
}

async fn found(variables: &[&[(&str, &str)]], files: MemoryFiles) -> Resolution {
    let env: MapEnv = variables
        .concat()
        .into_iter()
        .chain([("HOME", "/home")])
        .collect();
    let endpoint = FakeEndpoint::new();
    endpoint.always(|_, _| minted("federated", 600));
    let world = support::world(&endpoint).with_env(env).with_files(files);
    let guard = LeakGuard::new();
    let recording = guard.record_logs();
    let resolution = resolve(&world).await;
    drop(recording);
    guard.value("the resolution", &resolution);
    guard.display("the report", resolution.report());
    guard.assert_clean();
    resolution
}

async fn token(resolution: Resolution) -> Token {
    let source = resolution.into_source().unwrap();
    source.fetch(&Fetch::new(Reason::First)).await.unwrap()
}

/// Checks that this is the credential.
async fn check(variables: &[&[(&str, &str)]], files: MemoryFiles, text: &str) -> Resolution {
    let resolution = found(variables, files).await;
    let token = token(resolution.clone()).await;
    assert_eq!(token.secret().expose(), text, "{}", resolution.report());
    resolution
}

/// Checks that there is none, and gives the reason.
async fn check_none(variables: &[&[(&str, &str)]], files: MemoryFiles) -> Error {
    let resolution = found(variables, files).await;
    assert!(resolution.report().winner().is_none());
    resolution.into_source().unwrap_err()
}

fn is_shadowed(resolution: &Resolution, mechanism: Mechanism) -> bool {
    resolution
        .report()
        .shadowed()
        .any(|candidate| candidate.mechanism() == mechanism)
}

#[tokio::test]
async fn c1_nothing_is_an_error_that_lists_every_way() {
    let error = check_none(&[], disk()).await;
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    let text = error.to_string();
    for part in [
        "ANTHROPIC_API_KEY is not set",
        "ANTHROPIC_AUTH_TOKEN is not set",
        "ANTHROPIC_PROFILE is not set",
        "workload identity federation is not set",
        "active profile is not set (profile \"default\", in /home/.config/anthropic)",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn c4_a_key_comes_before_a_token_and_the_report_says_so() {
    let resolution = check(&[&[KEY, TOKEN]], disk(), "k").await;
    assert!(is_shadowed(&resolution, Mechanism::AuthToken));
    let notes = resolution.report().notes();
    assert_eq!(notes, [Note::ClaudeDiffers("ANTHROPIC_AUTH_TOKEN")]);
    let printed = resolution.report().to_string();
    assert!(printed.starts_with("-> 1. ANTHROPIC_API_KEY"), "{printed}");
    assert!(printed.contains("is there and not used"), "{printed}");
}

#[tokio::test]
async fn c5_an_empty_key_is_no_key() {
    let resolution = check(&[&[("ANTHROPIC_API_KEY", ""), TOKEN]], disk(), "t").await;
    let state = resolution.report().state(Mechanism::ApiKey);
    assert!(matches!(state, Some(State::SetButEmpty)));
}

#[tokio::test]
async fn c6_an_empty_key_alone_is_said_to_be_empty() {
    let error = check_none(&[&[("ANTHROPIC_API_KEY", "")]], disk()).await;
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert!(
        error
            .to_string()
            .contains("ANTHROPIC_API_KEY is set but empty"),
        "{error}"
    );
}

#[tokio::test]
async fn c7_an_empty_key_does_not_hide_a_federation() {
    check(&[&[("ANTHROPIC_API_KEY", "")], &FED], disk(), "federated").await;
}

#[tokio::test]
async fn c8_a_blank_key_does_not_hide_a_federation() {
    let resolution = check(&[&[("ANTHROPIC_API_KEY", "  ")], &FED], disk(), "federated").await;
    let state = resolution.report().state(Mechanism::ApiKey);
    assert!(matches!(state, Some(State::Blank)));
}

#[tokio::test]
async fn c9_a_key_is_trimmed() {
    check(&[&[("ANTHROPIC_API_KEY", "k\n")]], disk(), "k").await;
}

#[tokio::test]
async fn c10_a_key_that_cannot_be_sent_stops_the_search() {
    let canary = Canary::new("key");
    let key = format!("{}\nx", canary.text());
    let error = check_none(&[&[("ANTHROPIC_API_KEY", &key), TOKEN], &FED], disk()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error
            .to_string()
            .contains("ANTHROPIC_API_KEY has a line break"),
        "{error}"
    );
}

#[tokio::test]
async fn c11_a_key_comes_before_a_federation() {
    let resolution = check(&[&[KEY], &FED], disk(), "k").await;
    assert!(is_shadowed(&resolution, Mechanism::Federation));
}

#[tokio::test]
async fn c12_a_token_comes_before_a_federation() {
    let resolution = check(&[&[TOKEN], &FED], disk(), "t").await;
    assert!(is_shadowed(&resolution, Mechanism::Federation));
}

#[tokio::test]
async fn c13_a_profile_that_is_not_used_is_not_loaded() {
    let resolution = check(&[&[KEY, ("ANTHROPIC_PROFILE", "nope")]], disk(), "k").await;
    assert!(is_shadowed(&resolution, Mechanism::NamedProfile));
}

#[tokio::test]
async fn c14_a_key_that_is_given_reads_nothing() {
    let key = ApiKey::new("given").unwrap();
    let token = key.fetch(&Fetch::new(Reason::First)).await.unwrap();
    assert_eq!(token.secret().expose(), "given");
    assert_eq!(key.describe().settings().next(), Some(("key", "argument")));
}

#[tokio::test]
async fn a_token_of_another_kind_in_the_key_variable_is_said_to_be_in_the_wrong_place() {
    let canary = Canary::new("oat");
    let key = format!("sk-ant-oat01-{}", canary.text());
    let resolution = found(&[&[("ANTHROPIC_API_KEY", &key), TOKEN]], disk()).await;
    let state = resolution.report().state(Mechanism::ApiKey);
    assert!(matches!(state, Some(State::WrongSlot(_))));
    let error = resolution.into_source().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("belongs in ANTHROPIC_AUTH_TOKEN"),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_in_the_token_variable_is_noted() {
    let token = [("ANTHROPIC_AUTH_TOKEN", "sk-ant-api03-x")];
    let resolution = check(&[&token], disk(), "sk-ant-api03-x").await;
    assert_eq!(resolution.report().notes(), [Note::KeyInTokenVariable]);
    let token = [("ANTHROPIC_AUTH_TOKEN", "sk-ant-oat01-x")];
    let resolution = check(&[&token], disk(), "sk-ant-oat01-x").await;
    assert_eq!(resolution.report().notes(), [Note::AccessTokenInVariable]);
}

#[tokio::test]
async fn c25_a_rule_alone_is_a_federation_in_part() {
    let error = check_none(&[&FED[..1]], disk()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error.to_string().contains(
            "federation is set in part, missing: ANTHROPIC_ORGANIZATION_ID, ANTHROPIC_IDENTITY_TOKEN_FILE or"
        ),
        "{error}"
    );
}

#[tokio::test]
async fn c26_a_federation_without_an_identity_token_says_what_is_missing() {
    let resolution = found(&[&FED[..2]], disk()).await;
    let Some(State::Partial(missing)) = resolution.report().state(Mechanism::Federation) else {
        panic!("{}", resolution.report());
    };
    assert_eq!(
        missing,
        &["ANTHROPIC_IDENTITY_TOKEN_FILE or ANTHROPIC_IDENTITY_TOKEN"]
    );
}

#[tokio::test]
async fn c27_a_federation_in_part_does_not_hide_a_profile() {
    let resolution = check(&[&FED[..2]], with_profile(disk(), "default"), "default").await;
    let state = resolution.report().state(Mechanism::Federation);
    assert!(matches!(state, Some(State::Partial(_))));
}

#[tokio::test]
async fn c28_a_federation_comes_before_the_active_profile() {
    let files = with_profile(disk(), "work").with(format!("{ROOT}/active_config"), "work\n");
    let resolution = check(&[&FED], files, "federated").await;
    assert!(is_shadowed(&resolution, Mechanism::ActiveProfile));
}

#[tokio::test]
async fn c29_a_named_profile_comes_before_a_federation() {
    let files = with_profile(disk(), "work");
    check(&[&FED, &[("ANTHROPIC_PROFILE", "work")]], files, "work").await;
}

#[tokio::test]
async fn c30_an_empty_profile_name_is_none() {
    check(&[&FED, &[("ANTHROPIC_PROFILE", "")]], disk(), "federated").await;
}

#[tokio::test]
async fn c31_a_named_profile_that_is_missing_is_an_error() {
    let error = check_none(&[&FED, &[("ANTHROPIC_PROFILE", "nope")]], disk()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(
        error
            .to_string()
            .contains("\"nope\" in /home/.config/anthropic"),
        "{error}"
    );
}

#[tokio::test]
async fn c32_a_broken_default_profile_is_not_passed_over() {
    let files = disk().with(format!("{ROOT}/configs/default.json"), "{");
    let error = check_none(&[], files).await;
    assert!(
        error.to_string().contains("default.json is not JSON"),
        "{error}"
    );
}

#[tokio::test]
async fn c33_a_broken_profile_that_is_pointed_to_is_an_error() {
    let files = disk()
        .with(format!("{ROOT}/configs/work.json"), "[]")
        .with(format!("{ROOT}/active_config"), "work");
    let error = check_none(&[], files).await;
    assert!(
        error.to_string().contains("work.json is no JSON object"),
        "{error}"
    );
}

#[tokio::test]
async fn c34_a_pointer_to_a_missing_profile_is_an_error() {
    let files = disk().with(format!("{ROOT}/active_config"), "gone");
    let error = check_none(&[], files).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("\"gone\""), "{error}");
}

#[tokio::test]
async fn c35_a_blank_pointer_is_none() {
    let files = with_profile(disk(), "default").with(format!("{ROOT}/active_config"), "\n");
    check(&[], files, "default").await;
}

#[tokio::test]
async fn c36_a_folder_without_a_profile_is_an_error_that_names_it() {
    let error = check_none(&[&[("ANTHROPIC_CONFIG_DIR", "/conf")]], disk()).await;
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("/conf"), "{error}");
}

#[tokio::test]
async fn c109_a_login_of_claude_code_is_explained_and_not_read() {
    let canary = Canary::new("session");
    let login = format!("/home/.claude/{}", ".credentials.json");
    let files = disk().with(login, canary.text());
    let resolution = found(&[], files).await;
    assert_eq!(resolution.report().claude_login(), Some(ClaudeLogin::File));
    let error = resolution.into_source().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    let hint = error.hint().unwrap();
    assert!(hint.contains("logged in to Claude Code"), "{hint}");
    assert!(hint.contains("ant auth login"), "{hint}");

    let variable = [("CLAUDE_CODE_OAUTH_TOKEN", canary.text())];
    let resolution = found(&[&variable], disk()).await;
    assert_eq!(
        resolution.report().claude_login(),
        Some(ClaudeLogin::Variable)
    );
    assert!(resolution.error().is_some());
}
