use serde_json::json;
use tower_auth_core::ErrorKind;
use tower_auth_io::{Command, MapEnv, Output, ScriptedRun, World};
use tower_auth_workload::{Buildkite, CircleCi, CommandToken, EnvToken, GitLab, HcpTerraform};

use crate::identity::{AUDIENCE, NOW, at, error, jwt, jwt_of, text, world};

fn with(name: &str, value: &str) -> World {
    world().0.with_env(MapEnv::new().with(name, value))
}

fn running(output: Output) -> (World, ScriptedRun) {
    let run = ScriptedRun::new().answer(output);
    (world().0.with_run(run.clone()), run)
}

fn command_line(run: &ScriptedRun) -> Vec<String> {
    let command = run.commands().remove(0);
    std::iter::once(command.program())
        .chain(command.arguments())
        .map(|part| part.to_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn w80_a_token_that_is_over_names_its_variable_and_the_way_out() {
    let (world, clock) = world();
    clock.set(at(NOW + 301));
    let env = MapEnv::from([
        ("CLAUDE_ID_TOKEN", &*jwt("1")),
        ("TFC_WORKLOAD_IDENTITY_TOKEN", &jwt("1")),
        ("CIRCLE_OIDC_TOKEN_V2", &jwt("1")),
        ("OTHER", &jwt("1")),
    ]);
    let world = world.with_env(env);
    let errors = [
        (
            error(&GitLab::new("CLAUDE_ID_TOKEN", AUDIENCE, &world).unwrap()).await,
            "CLAUDE_ID_TOKEN",
            "does not renew it within a job",
        ),
        (
            error(&HcpTerraform::new(AUDIENCE, &world).unwrap()).await,
            "TFC_WORKLOAD_IDENTITY_TOKEN",
            "start another run",
        ),
        (
            error(&CircleCi::from_env(AUDIENCE, &world).unwrap()).await,
            "CIRCLE_OIDC_TOKEN_V2",
            "CircleCi::new",
        ),
        (
            error(&EnvToken::new("OTHER", AUDIENCE, &world).unwrap()).await,
            "OTHER",
            "outlives it",
        ),
    ];
    for (error, variable, hint) in errors {
        assert_eq!(error.kind(), ErrorKind::Expired);
        let said = error.to_string();
        assert!(
            said.contains(&format!("environment variable {variable} expired 1 s ago")),
            "{said}"
        );
        assert!(said.contains(hint), "{said}");
    }
}

#[tokio::test]
async fn w80_another_audience_says_which_setting_to_change() {
    let other = jwt_of(json!({ "aud": "org-1" }));
    let gitlab = GitLab::new("T", AUDIENCE, &with("T", &other)).unwrap();
    let tagged = with("TFC_WORKLOAD_IDENTITY_TOKEN_A", &other);
    let terraform = HcpTerraform::tagged("A", AUDIENCE, &tagged).unwrap();
    let circleci = with("CIRCLE_OIDC_TOKEN_V2", &other);
    let circleci = CircleCi::from_env("org-2", &circleci).unwrap();
    for (error, hint) in [
        (
            error(&gitlab).await,
            "`id_tokens: { T: { aud: https://api.anthropic.com } }`",
        ),
        (
            error(&terraform).await,
            "TFC_WORKLOAD_IDENTITY_AUDIENCE_A to https://api.anthropic.com",
        ),
        (error(&circleci).await, "the organization's id"),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(
            error.to_string().contains("for the audience org-1"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn w80_a_variable_without_a_token_is_not_configured() {
    for world in [world().0, with("T", "")] {
        let error = error(&GitLab::new("T", AUDIENCE, &world).unwrap()).await;
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        assert!(error.hint().unwrap().contains("id_tokens"), "{error}");
        assert_eq!(error.source_name(), Some("gitlab id token"));
    }
    let error = error(&HcpTerraform::new(AUDIENCE, &world().0).unwrap()).await;
    assert!(
        error
            .hint()
            .unwrap()
            .contains("TFC_WORKLOAD_IDENTITY_AUDIENCE"),
        "{error}"
    );
}

#[tokio::test]
async fn w80_what_is_no_token_is_not_shown() {
    for odd in [
        "canary",
        "$canary",
        "{\"t\":\"canary\"}",
        "canary.canary.canary",
    ] {
        let error = error(&GitLab::new("T", AUDIENCE, &with("T", odd)).unwrap()).await;
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn a_good_variable_gives_its_token() {
    let world = with("T", &jwt("1"));
    assert_eq!(
        text(&GitLab::new("T", AUDIENCE, &world).unwrap()).await,
        jwt("1")
    );
    assert_eq!(
        text(&EnvToken::new("T", AUDIENCE, &world).unwrap()).await,
        jwt("1")
    );
}

#[test]
fn names_and_audiences_that_are_blank_are_refused() {
    let (world, _) = world();
    for error in [
        EnvToken::new(" ", AUDIENCE, &world).unwrap_err(),
        EnvToken::new("T", "", &world).unwrap_err(),
        GitLab::new("T", " ", &world).unwrap_err(),
        HcpTerraform::tagged("", AUDIENCE, &world).unwrap_err(),
        HcpTerraform::tagged("A-B", AUDIENCE, &world).unwrap_err(),
        HcpTerraform::tagged("TYPE", AUDIENCE, &world).unwrap_err(),
        CircleCi::new("", &world).unwrap_err(),
        Buildkite::new("", &world).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.source_name().is_some(), "{error}");
    }
}

#[tokio::test]
async fn w81_commands_are_asked_for_the_audience_and_trimmed() {
    let printed = || Output::new(0, format!("{}\r\n", jwt("1")));
    let (world, run) = running(printed());
    let source = CircleCi::new(AUDIENCE, &world).unwrap();
    assert_eq!(text(&source).await, jwt("1"));
    assert_eq!(
        command_line(&run),
        [
            "circleci",
            "run",
            "oidc",
            "get",
            "--claims",
            r#"{"aud":"https://api.anthropic.com"}"#
        ]
    );

    let (world, run) = running(printed());
    let source = Buildkite::new(AUDIENCE, &world)
        .unwrap()
        .with_lifetime(std::time::Duration::from_secs(600));
    assert_eq!(text(&source).await, jwt("1"));
    assert_eq!(
        command_line(&run),
        [
            "buildkite-agent",
            "oidc",
            "request-token",
            "--audience",
            AUDIENCE,
            "--lifetime",
            "600"
        ]
    );
}

#[tokio::test]
async fn w81_a_command_that_fails_is_told_by_its_code() {
    let (world, _) = running(Output::new(1, "canary").with_stderr("canary"));
    let error = error(&Buildkite::new(AUDIENCE, &world).unwrap()).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("exit code 1"), "{error}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}

#[tokio::test]
async fn w81_a_command_that_is_not_there_says_where_it_would_be() {
    let (world, _) = world();
    let missing = error(&CircleCi::new(AUDIENCE, &world).unwrap()).await;
    assert_eq!(missing.kind(), ErrorKind::NotConfigured);
    assert!(
        missing.hint().unwrap().contains("CircleCI job"),
        "{missing}"
    );
}

#[tokio::test]
async fn w81_what_a_command_prints_besides_is_no_token() {
    let (world, _) = running(Output::new(0, format!("warning: canary\n{}", jwt("1"))));
    let source = CommandToken::new(Command::new("cli"), AUDIENCE, &world).unwrap();
    let error = error(&source).await;
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("the output of `cli`"), "{error}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn w81_a_real_program_is_run_for_what_it_prints() {
    use tower_auth_io::SystemRun;

    let world = world().0.with_run(SystemRun);
    let command = Command::new("printf").args(["%s\\n".to_owned(), jwt("1")]);
    let source = CommandToken::new(command, AUDIENCE, &world).unwrap();
    assert_eq!(text(&source).await, jwt("1"));

    let source = CommandToken::new(Command::new("false"), AUDIENCE, &world).unwrap();
    assert_eq!(error(&source).await.kind(), ErrorKind::Unavailable);
}
