//! Whatever others write, into files, variables and answers: no panic, and no secret in an error.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use tower_auth_claude::{ApiKey, AuthToken, ClaudeCli, Federation, Profile, Prompt, resolve};
use tower_auth_core::{Fetch, Reason, TokenSource};
use tower_auth_io::{MapEnv, MemoryFiles, Output, ScriptedRun, World};
use tower_auth_testing::{Canary, FakeEndpoint, LeakGuard, Reply};
use tower_service::Service;

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(future)
}

/// Text with a secret somewhere in it.
fn with_secret() -> impl Strategy<Value = String> {
    let secret = Canary::new("somewhere").text().to_owned();
    (
        "\\PC{0,8}|[\\s\"'{}:,\\[\\]]{0,4}",
        "\\PC{0,8}|[\\s\"'{}:,\\[\\]]{0,4}",
    )
        .prop_map(move |(before, after)| format!("{before}{secret}{after}"))
}

/// A document in JSON whose members are of any kind.
fn document(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let secret = Canary::new("member").text().to_owned();
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("-1".to_owned()),
        Just("1e400".to_owned()),
        Just("1893459600".to_owned()),
        Just("[]".to_owned()),
        Just(r#"{"source":"file","path":"/t"}"#.to_owned()),
        Just(format!("\"{secret}\"")),
        Just(format!("\"{secret}\\n\"")),
        Just("\"oauth_token\"".to_owned()),
        Just("\"https://a.test\"".to_owned()),
    ];
    proptest::collection::vec((proptest::sample::select(names), value), 0..6).prop_map(|members| {
        let members: Vec<String> = members
            .into_iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c111_any_variable_is_taken_or_refused_unseen(text in with_secret()) {
        let guard = LeakGuard::new();
        for made in [ApiKey::new(text.clone()).map(|key| format!("{key:?}")),
                     AuthToken::new(text.clone()).map(|token| format!("{token:?}"))] {
            match made {
                Ok(shown) => guard.text("the source", shown),
                Err(error) => guard.error("the error", &error),
            }
        }
        let env = MapEnv::from([
            ("ANTHROPIC_API_KEY", text.as_str()),
            ("ANTHROPIC_AUTH_TOKEN", text.as_str()),
            ("ANTHROPIC_IDENTITY_TOKEN", text.as_str()),
        ]);
        let resolution = block_on(resolve(&World::closed().with_env(env)));
        guard.value("the resolution", &resolution);
        guard.display("the report", resolution.report());
        guard.assert_clean();
    }

    #[test]
    fn c111_any_identity_token_and_any_answer_are_taken_or_refused_unseen(
        identity in with_secret(),
        answer in document(&["access_token", "expires_in", "expires_on", "refresh_in"]),
        status in proptest::sample::select(vec![200_u16, 201, 400, 401, 403, 500]),
    ) {
        let guard = LeakGuard::new();
        let endpoint = FakeEndpoint::new();
        endpoint.always(move |_, _| Reply::json(answer.clone()).with_status(status));
        let world = World::closed().with_transport(endpoint.transport());
        let source = Federation::new("fdrl_1", "org", identity, &world).unwrap();
        match block_on(source.fetch(&Fetch::new(Reason::First))) {
            Ok(token) => guard.value("the token", &token),
            Err(error) => guard.error("the error", &error),
        }
        guard.assert_clean();
    }

    #[test]
    fn c111_any_profile_is_taken_or_refused_unseen(
        credentials in document(&["type", "access_token", "refresh_token", "expires_at", "tower_auth_inputs"]),
        torn in 0_usize..400,
        client in any::<bool>(),
    ) {
        let guard = LeakGuard::new();
        let client = if client { r#","client_id":"c""# } else { "" };
        let config = format!(r#"{{"authentication":{{"type":"user_oauth"{client}}}}}"#);
        let end = (0..=torn.min(credentials.len())).rev().find(|end| credentials.is_char_boundary(*end));
        let files = MemoryFiles::new()
            .with("/c/configs/p.json", config)
            .with("/c/credentials/p.json", credentials.get(..end.unwrap_or_default()).unwrap_or_default());
        let endpoint = FakeEndpoint::new();
        endpoint.always(|_, _| Reply::json(r#"{"access_token":"t","expires_in":60}"#));
        let world = World::closed()
            .with_transport(endpoint.transport())
            .with_env(MapEnv::from([("ANTHROPIC_CONFIG_DIR", "/c")]))
            .with_files(files);
        let outcome = block_on(async {
            let profile = Profile::load("p", &world).await?;
            profile.fetch(&Fetch::new(Reason::First)).await
        });
        match outcome {
            Ok(token) => guard.value("the token", &token),
            Err(error) => guard.error("the error", &error),
        }
        guard.assert_clean();
    }

    #[test]
    fn any_output_of_the_claude_program_is_an_answer_or_an_error(
        output in prop_oneof![with_secret(), document(&["result", "is_error", "error", "subtype", "type"])],
        code in 0..2,
    ) {
        let run = ScriptedRun::new().answer(Output::new(code, output));
        let world = World::closed().with_run(run);
        let guard = LeakGuard::new();
        if let Err(error) = block_on(ClaudeCli::new(&world).call(Prompt::new("?"))) {
            guard.error("the error", &error);
        }
        guard.assert_clean();
    }
}
