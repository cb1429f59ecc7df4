//! Profiles: what is read, what is renewed, what is written.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::{identity_token, minted, refused};
use tower_auth_claude::Profile;
use tower_auth_core::{
    Credential as _, Error, ErrorKind, Expiry, Fetch, HeaderMode, Reason, Token, TokenSource,
};
use tower_auth_io::{MapEnv, MemoryFiles, World};
use tower_auth_testing::{Canary, FakeEndpoint, LeakGuard, Reply, TestClock};

const CONFIG: &str = "/c/configs/p.json";
const CREDENTIALS: &str = "/c/credentials/p.json";
/// What [`TestClock`] shows at its start, in seconds since 1970.
const NOW: u64 = 1_767_225_600;

/// One profile, a disk to put it on and the endpoint that renews it.
struct Machine {
    files: MemoryFiles,
    endpoint: FakeEndpoint,
    env: MapEnv,
    clock: TestClock,
}

impl Machine {
    fn new(config: &Value) -> Self {
        Self {
            files: MemoryFiles::new().with(CONFIG, config.to_string()),
            endpoint: FakeEndpoint::new(),
            env: MapEnv::from([("ANTHROPIC_CONFIG_DIR", "/c")]),
            clock: TestClock::new(),
        }
    }

    /// With a login whose access token ends then.
    fn user(expires_at: impl Into<Value>) -> Self {
        let machine = Self::new(&user_config());
        machine.store(&stored(expires_at));
        machine
    }

    fn federation() -> Self {
        let machine = Self::new(&federation_config());
        machine.files.write("/run/token", identity_token("1"));
        machine
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env = self.env.with(name, value);
        self
    }

    fn store(&self, credentials: &Value) {
        self.files.write(CREDENTIALS, credentials.to_string());
    }

    fn on_disk(&self) -> Value {
        serde_json::from_slice(&self.files.contents(CREDENTIALS).unwrap()).unwrap()
    }

    fn world(&self) -> World {
        World::closed()
            .with_transport(self.endpoint.transport())
            .with_files(self.files.clone())
            .with_env(self.env.clone())
            .with_clock(self.clock.clone())
    }

    async fn load(&self) -> Result<Profile, Error> {
        Profile::load("p", &self.world()).await
    }

    async fn fetch(&self) -> Result<Token, Error> {
        let result = self.load().await?.fetch(&Fetch::new(Reason::First)).await;
        if let Err(error) = &result {
            let guard = LeakGuard::new();
            guard.error("the error", error);
            guard.assert_clean();
        }
        result
    }

    /// Checks that the profile cannot be loaded or used, and gives the reason.
    async fn check_refused(&self, word: &str) {
        let error = self.fetch().await.unwrap_err();
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

fn user_config() -> Value {
    json!({
        "version": "1.0",
        "authentication": {"type": "user_oauth", "client_id": "client-1"},
        "workspace_id": "wrkspc_p",
    })
}

fn federation_config() -> Value {
    json!({
        "version": "1.0",
        "authentication": {
            "type": "oidc_federation", "federation_rule_id": "fdrl_1",
            "identity_token": {"source": "file", "path": "/run/token"},
        },
        "organization_id": "org", "workspace_id": "wrkspc_p",
    })
}

fn stored(expires_at: impl Into<Value>) -> Value {
    json!({
        "version": "1.0", "type": "oauth_token", "access_token": "T0",
        "expires_at": expires_at.into(), "refresh_token": "R0",
        "scope": "a b", "custom": {"k": 1},
    })
}

fn with(mut value: Value, pointer: &str, new: Value) -> Value {
    *value.pointer_mut(pointer).unwrap() = new;
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name);
    value
}

fn renewed() -> Reply {
    Reply::json(
        json!({"access_token": "T1", "expires_in": 3600, "refresh_token": "R1"}).to_string(),
    )
}

fn workspace(token: &Token) -> Option<&str> {
    let header = token
        .headers()
        .iter()
        .find(|header| header.name() == "anthropic-workspace-id")?;
    assert_eq!(header.mode(), HeaderMode::IfAbsent);
    Some(header.value().expose())
}

#[tokio::test(start_paused = true)]
async fn c37_a_profile_is_found_in_the_xdg_folder() {
    let files = MemoryFiles::new().with("/x/anthropic/configs/p.json", user_config().to_string());
    let world = World::closed()
        .with_files(files)
        .with_env(MapEnv::from([("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]));
    let profile = Profile::load("p", &world).await.unwrap();
    assert!(profile.path().starts_with("/x"));
}

#[tokio::test(start_paused = true)]
async fn c38_a_name_that_leads_elsewhere_is_not_looked_for() {
    let machine = Machine::user(NOW + 3600);
    for name in ["../c/configs/p", ".p", " p", "a/p"] {
        let error = Profile::load(name, &machine.world()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn c40_a_profile_that_others_can_write_is_refused() {
    let machine = Machine::user(NOW + 3600);
    machine.files.set_mode(CONFIG, 0o664);
    machine.check_refused("mode 0664").await;
    machine.files.set_mode(CONFIG, 0o644);
    machine.fetch().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c41_credentials_that_others_can_read_are_refused() {
    let machine = Machine::user(NOW + 3600);
    machine.files.set_mode(CREDENTIALS, 0o644);
    machine.check_refused("make its mode 0600").await;
}

#[tokio::test(start_paused = true)]
async fn c43_missing_credentials_are_an_error_with_advice() {
    let machine = Machine::new(&user_config());
    machine.check_refused("run `ant auth login`").await;
}

#[tokio::test(start_paused = true)]
async fn c44_credentials_of_another_type_are_refused() {
    let machine = Machine::new(&user_config());
    machine.store(&with(stored(NOW + 3600), "/type", json!("other")));
    machine.check_refused("type in /c/credentials/p.json").await;
}

#[tokio::test(start_paused = true)]
async fn c45_an_end_that_is_no_number_is_named() {
    let machine = Machine::user("2026-01-01T00:00:00Z");
    machine
        .check_refused("expires_at in /c/credentials/p.json")
        .await;
}

#[tokio::test(start_paused = true)]
async fn c46_an_end_may_be_a_fraction_or_digits() {
    for end in [json!(NOW as f64 + 3600.5), json!((NOW + 3600).to_string())] {
        let token = Machine::user(end).fetch().await.unwrap();
        assert_eq!(token.secret().expose(), "T0");
    }
}

#[tokio::test(start_paused = true)]
async fn c47_another_version_and_unknown_members_are_taken() {
    let mut config = with(user_config(), "/version", json!("9.9"));
    config["authentication"]["future"] = json!([1]);
    let machine = Machine::new(&config);
    machine.store(&stored(NOW + 3600));
    machine.fetch().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c48_a_fresh_login_is_used_as_it_is() {
    let machine = Machine::user(NOW + 3600);
    let token = machine.fetch().await.unwrap();
    assert_eq!(token.secret().expose(), "T0");
    assert!(matches!(token.expiry(), Expiry::At(_)));
    assert_eq!(token.headers()[0].value().expose(), "oauth-2025-04-20");
    assert_eq!(workspace(&token), Some("wrkspc_p"));
    assert_eq!(machine.endpoint.request_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn c49_an_ended_login_is_renewed_and_written_with_what_else_is_there() {
    let machine = Machine::user(NOW - 1);
    machine.endpoint.reply(renewed());
    let token = machine.fetch().await.unwrap();
    assert_eq!(token.secret().expose(), "T1");
    let request = machine.endpoint.last_request();
    assert_eq!(request.uri(), "https://api.anthropic.com/v1/oauth/token");
    assert_eq!(request.headers()["anthropic-beta"], "oauth-2025-04-20");
    assert_eq!(request.headers()["content-type"], "application/json");
    assert_eq!(
        serde_json::from_slice::<Value>(request.body()).unwrap(),
        json!({"grant_type": "refresh_token", "refresh_token": "R0", "client_id": "client-1"})
    );
    assert_eq!(
        machine.on_disk(),
        json!({
            "version": "1.0", "type": "oauth_token", "access_token": "T1",
            "expires_at": NOW + 3600, "refresh_token": "R1", "scope": "a b", "custom": {"k": 1},
        })
    );
}

#[tokio::test(start_paused = true)]
async fn c50_a_renewal_without_rotation_and_lifetime_keeps_the_one_and_assumes_the_other() {
    let machine = Machine::user(NOW - 1);
    machine
        .endpoint
        .reply(Reply::json(r#"{"access_token":"T1"}"#));
    let token = machine.fetch().await.unwrap();
    assert_eq!(token.expiry(), Expiry::In(Duration::from_secs(3600)));
    assert_eq!(machine.on_disk()["refresh_token"], "R0");
}

#[tokio::test(start_paused = true)]
async fn c51_a_login_that_is_about_to_end_is_renewed() {
    let machine = Machine::user(NOW + 20);
    machine.endpoint.reply(renewed());
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "T1");
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "T1");
    assert_eq!(machine.endpoint.request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn c52_a_login_that_does_not_say_when_it_ends_is_renewed() {
    let machine = Machine::new(&user_config());
    machine.store(&without(stored(0), "expires_at"));
    machine.endpoint.reply(renewed());
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "T1");
}

fn without_client() -> Machine {
    let config = with(
        user_config(),
        "/authentication",
        json!({"type": "user_oauth"}),
    );
    Machine::new(&config)
}

#[tokio::test(start_paused = true)]
async fn c53_an_ended_login_that_others_renew_is_an_error() {
    let machine = without_client();
    machine.store(&stored(NOW - 1));
    let error = machine.fetch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Expired);
}

#[tokio::test(start_paused = true)]
async fn c54_a_login_that_others_renew_is_read_again() {
    let machine = without_client();
    machine.store(&without(stored(0), "expires_at"));
    let profile = machine.load().await.unwrap();
    let cx = Fetch::new(Reason::First);
    let token = profile.fetch(&cx).await.unwrap();
    assert!(matches!(token.expiry(), Expiry::AskEvery(_)));
    machine.store(&without(
        with(stored(0), "/access_token", json!("T9")),
        "expires_at",
    ));
    let token = profile.fetch(&cx).await.unwrap();
    assert_eq!(token.secret().expose(), "T9");
}

#[tokio::test(start_paused = true)]
async fn c55_a_fresh_login_without_a_refresh_token_is_used() {
    let machine = Machine::new(&user_config());
    machine.store(&without(stored(NOW + 3600), "refresh_token"));
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "T0");
    machine.store(&without(stored(NOW + 20), "refresh_token"));
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "T0");
    machine.store(&without(stored(NOW - 1), "refresh_token"));
    machine.check_refused("run `ant auth login`").await;
    assert_eq!(machine.endpoint.request_count(), 0);
}

fn invalid_grant() -> Reply {
    Reply::json(r#"{"error":"invalid_grant","error_description":"not found"}"#).with_status(400)
}

#[tokio::test(start_paused = true)]
async fn c56_a_dead_refresh_token_is_an_error_with_advice() {
    let canary = Canary::new("refresh");
    let machine = Machine::new(&user_config());
    machine.store(&with(
        stored(NOW - 1),
        "/refresh_token",
        json!(canary.text()),
    ));
    machine.endpoint.reply(invalid_grant());
    let error = machine.fetch().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.hint().unwrap().contains("ant auth login"), "{error}");
    assert_eq!(machine.endpoint.request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn c56_a_refresh_token_that_was_rotated_meanwhile_is_read_again() {
    let machine = Machine::user(NOW - 1);
    let files = machine.files.clone();
    machine.endpoint.always(move |request, nth| {
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        if nth == 0 {
            let other = with(stored(NOW - 1), "/refresh_token", json!("R5"));
            files.write(CREDENTIALS, other.to_string());
            return invalid_grant();
        }
        assert_eq!(body["refresh_token"], "R5");
        renewed()
    });
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "T1");
    assert_eq!(machine.on_disk()["refresh_token"], "R1");
}

#[tokio::test(start_paused = true)]
async fn fc_a43_two_processes_renew_a_login_once() {
    let machine = Machine::user(NOW - 1);
    machine
        .endpoint
        .reply(renewed().after(Duration::from_secs(2)));
    let (one, two) = tokio::join!(machine.fetch(), machine.fetch());
    assert_eq!(one.unwrap().secret().expose(), "T1");
    assert_eq!(two.unwrap().secret().expose(), "T1");
    assert_eq!(machine.endpoint.request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn c57_a_refused_login_is_renewed_whatever_its_end() {
    let machine = Machine::user(NOW + 3600);
    let profile = machine.load().await.unwrap();
    let first = profile.fetch(&Fetch::new(Reason::First)).await.unwrap();
    machine.endpoint.reply(renewed());
    let cx = Fetch::new(Reason::Rejected).with_previous(Arc::new(first));
    let next = profile.fetch(&cx).await.unwrap();
    assert_eq!(next.secret().expose(), "T1");
}

#[tokio::test(start_paused = true)]
async fn fc_d22_a_login_that_cannot_be_written_goes_on_in_memory() {
    let machine = Machine::user(NOW - 1);
    machine
        .files
        .fail_writes(CREDENTIALS, io::ErrorKind::StorageFull);
    let profile = machine.load().await.unwrap();
    machine.endpoint.reply(renewed());
    let first = profile.fetch(&Fetch::new(Reason::First)).await.unwrap();
    assert_eq!(first.secret().expose(), "T1");
    assert_eq!(machine.on_disk()["refresh_token"], "R0", "the old file");
    machine.endpoint.reply(renewed());
    profile.fetch(&Fetch::new(Reason::Expired)).await.unwrap();
    let body: Value = serde_json::from_slice(machine.endpoint.last_request().body()).unwrap();
    assert_eq!(
        body["refresh_token"], "R1",
        "the one that could not be written"
    );
}

#[tokio::test(start_paused = true)]
async fn c58_a_federation_keeps_its_token_in_a_file() {
    let machine = Machine::federation();
    machine.endpoint.reply(minted("F1", 600));
    let token = machine.fetch().await.unwrap();
    assert_eq!(token.secret().expose(), "F1");
    assert_eq!(workspace(&token), None, "its token is bound to it already");
    let kept = machine.on_disk();
    assert_eq!(kept["access_token"], "F1");
    assert_eq!(kept["expires_at"], NOW + 600);
    assert_eq!(kept["type"], "oauth_token");
}

#[tokio::test(start_paused = true)]
async fn c59_a_kept_token_is_used_by_the_next_process() {
    let machine = Machine::federation();
    machine.endpoint.reply(minted("F1", 3600));
    machine.fetch().await.unwrap();
    let token = machine.fetch().await.unwrap();
    assert_eq!(token.secret().expose(), "F1");
    assert_eq!(machine.endpoint.request_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn c60_a_kept_token_that_is_about_to_end_is_replaced_and_other_members_stay() {
    let machine = Machine::federation();
    machine.store(&stored(NOW + 20));
    machine.endpoint.reply(minted("F1", 600));
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "F1");
    assert_eq!(machine.on_disk()["custom"], json!({"k": 1}));
}

#[tokio::test(start_paused = true)]
async fn c61_a_kept_token_of_an_edited_profile_is_not_used() {
    let machine = Machine::federation();
    machine.endpoint.reply(minted("F1", 3600));
    machine.fetch().await.unwrap();
    machine.files.write("/run/token", identity_token("2"));
    let edited = with(federation_config(), "/workspace_id", json!("wrkspc_q"));
    machine.files.write(CONFIG, edited.to_string());
    machine.endpoint.reply(minted("F2", 3600));
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "F2");
}

#[tokio::test(start_paused = true)]
async fn c61_a_token_that_another_client_kept_must_be_younger_than_the_profile() {
    let machine = Machine::federation();
    machine.store(&stored(NOW + 3600));
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "T0");
    machine.files.write(CONFIG, federation_config().to_string());
    machine.endpoint.reply(minted("F1", 3600));
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "F1");
}

#[tokio::test(start_paused = true)]
async fn c62_a_federation_takes_the_identity_token_of_the_environment() {
    let mut config = federation_config();
    config["authentication"]
        .as_object_mut()
        .unwrap()
        .remove("identity_token");
    let machine = Machine::new(&config).env("ANTHROPIC_IDENTITY_TOKEN", "ey.lit.jwt");
    machine.endpoint.reply(minted("F1", 600));
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "F1");
}

#[tokio::test(start_paused = true)]
async fn c63_the_environment_fills_gaps_and_overrides_nothing() {
    let mut config = with(federation_config(), "/organization_id", json!(""));
    config["authentication"]["federation_rule_id"] = json!(null);
    let machine = Machine::new(&config)
        .env("ANTHROPIC_FEDERATION_RULE_ID", "fdrl_env")
        .env("ANTHROPIC_ORGANIZATION_ID", "org-env")
        .env("ANTHROPIC_WORKSPACE_ID", "wrkspc_env");
    machine.files.write("/run/token", identity_token("1"));
    machine.endpoint.reply(minted("F1", 600));
    machine.fetch().await.unwrap();
    let body: Value = serde_json::from_slice(machine.endpoint.last_request().body()).unwrap();
    assert_eq!(body["federation_rule_id"], "fdrl_env");
    assert_eq!(body["organization_id"], "org-env");
    assert_eq!(body["workspace_id"], "wrkspc_p");
}

#[tokio::test(start_paused = true)]
async fn c64_an_identity_token_comes_from_a_file_or_not_at_all() {
    let config = with(
        federation_config(),
        "/authentication/identity_token/source",
        json!("url"),
    );
    let machine = Machine::new(&config);
    machine.check_refused("identity_token.source").await;
    let config = with(
        federation_config(),
        "/authentication/identity_token/path",
        json!(""),
    );
    Machine::new(&config)
        .env("ANTHROPIC_IDENTITY_TOKEN", "ey.lit.jwt")
        .check_refused("identity_token.path")
        .await;
}

#[tokio::test(start_paused = true)]
async fn c65_a_token_that_cannot_be_kept_is_used() {
    let machine = Machine::federation();
    machine
        .files
        .fail_writes(CREDENTIALS, io::ErrorKind::PermissionDenied);
    machine.endpoint.reply(minted("F1", 600));
    assert_eq!(machine.fetch().await.unwrap().secret().expose(), "F1");
    assert_eq!(machine.files.contents(CREDENTIALS), None);
}

#[tokio::test(start_paused = true)]
async fn c66_a_base_url_in_clear_is_refused_when_the_profile_is_loaded() {
    let mut config = user_config();
    config["base_url"] = json!("http://evil.example");
    let error = Machine::new(&config).load().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("base_url"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_login_and_its_token_do_not_go_to_two_hosts() {
    let mut config = user_config();
    config["base_url"] = json!("https://one.test/");
    let machine = Machine::new(&config).env("ANTHROPIC_BASE_URL", "https://two.test");
    let error = machine.load().await.unwrap_err();
    assert!(error.to_string().contains("another host"), "{error}");
    let machine = Machine::new(&config);
    let origins = machine.load().await.unwrap().describe();
    assert_eq!(origins.origins()[0].to_string(), "https://one.test");
}

#[tokio::test(start_paused = true)]
async fn c111_a_profile_shows_no_token() {
    let guard = LeakGuard::new();
    let recording = guard.record_logs();
    let machine = Machine::new(&user_config());
    let [access, refresh] = ["access", "refresh"].map(|name| Canary::new(name).text().to_owned());
    let credentials = with(stored(NOW - 1), "/access_token", json!(access));
    machine.store(&with(credentials, "/refresh_token", json!(refresh)));
    let profile = machine.load().await.unwrap();
    guard.value("the profile", &profile);
    guard.display("the description", &profile.describe());
    for reply in [
        refused(),
        Reply::status(503),
        Reply::html(refresh.clone()),
        Reply::json(refresh),
    ] {
        machine.endpoint.reply(reply);
        let error = profile.fetch(&Fetch::new(Reason::First)).await.unwrap_err();
        guard.error("the error", &error);
    }
    machine.files.write(
        CREDENTIALS,
        format!("{{\"access_token\": \"{access}\" oops"),
    );
    guard.error("a broken file", &machine.fetch().await.unwrap_err());
    drop(recording);
    guard.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn c103_the_workspace_of_the_caller_stays() {
    use tower::{Layer, ServiceExt};

    let machine = Machine::user(NOW + 3600);
    machine.endpoint.always(|_, _| Reply::status(200));
    let cache = tower_auth::TokenCache::builder(machine.load().await.unwrap())
        .clock(machine.clock.clone())
        .build();
    let client = tower_auth::AuthLayer::from_cache(cache).layer(machine.endpoint.service());
    for own in [None, Some("wrkspc_own")] {
        let mut request = http::Request::post("https://api.anthropic.com/v1/messages");
        if let Some(own) = own {
            request = request.header("anthropic-workspace-id", own);
        }
        let request = request.body(http_body_util::Full::<bytes::Bytes>::default());
        client.clone().oneshot(request.unwrap()).await.unwrap();
        let headers = machine.endpoint.last_request().headers().clone();
        assert_eq!(headers["anthropic-workspace-id"], own.unwrap_or("wrkspc_p"));
        assert_eq!(headers["authorization"], "Bearer T0");
    }
}

#[tokio::test]
async fn c42_a_link_to_credentials_is_followed_and_its_target_checked() {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("profile-{}", std::process::id()));
    let elsewhere = folder.join("elsewhere.json");
    fs::create_dir_all(folder.join("configs")).unwrap();
    fs::create_dir_all(folder.join("credentials")).unwrap();
    fs::write(folder.join("configs/p.json"), user_config().to_string()).unwrap();
    fs::write(&elsewhere, stored(NOW + 3600).to_string()).unwrap();
    symlink(&elsewhere, folder.join("credentials/p.json")).unwrap();

    let mut machine = Machine::new(&user_config());
    machine.env = MapEnv::from([("ANTHROPIC_CONFIG_DIR", folder.to_str().unwrap())]);
    let world = machine
        .world()
        .with_files(tower_auth_io::SystemFiles::new());
    let mut outcomes = Vec::new();
    for mode in [0o644, 0o600] {
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(
            folder.join("configs/p.json"),
            fs::Permissions::from_mode(0o644),
        )
        .unwrap();
        let profile = Profile::load("p", &world).await.unwrap();
        outcomes.push(profile.fetch(&Fetch::new(Reason::First)).await);
    }
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(outcomes[1].as_ref().unwrap().secret().expose(), "T0");
    let error = outcomes[0].as_ref().unwrap_err();
    assert!(error.to_string().contains("mode 0644"), "{error}");
}
