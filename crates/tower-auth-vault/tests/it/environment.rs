//! What the variables of the official clients mean here.
use crate::bench::{Bench, fetch, token};
use tower_auth_core::{Error, ErrorKind, Reason};
use tower_auth_io::{MapEnv, World};
use tower_auth_testing::{Expect, Reply};
use tower_auth_vault::{Login, Server, Session, Settings};

fn world(variables: &[(&str, &str)]) -> World {
    World::closed().with_env(variables.iter().copied().collect::<MapEnv>())
}

fn server(variables: &[(&str, &str)]) -> Result<Server, Error> {
    Server::from_env(&world(variables))
}

#[test]
fn v36_only_a_clear_yes_asks_to_skip_verification_and_it_is_refused() {
    for no in ["", "0", "f", "False", "FALSE"] {
        assert!(server(&[("VAULT_SKIP_VERIFY", no)]).is_ok(), "{no}");
    }
    for (value, word) in [
        ("no", "neither true nor false"),
        ("yes", "neither true nor false"),
        ("1", "VAULT_CACERT"),
        ("true", "VAULT_CACERT"),
    ] {
        let error = server(&[("VAULT_SKIP_VERIFY", value)]).unwrap_err();
        let said = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(
            said.contains("VAULT_SKIP_VERIFY") && said.contains(word),
            "{said}"
        );
    }
}

#[test]
fn v37_a_variable_of_openbao_counts_more_even_where_it_is_empty() {
    let both = [("BAO_ADDR", ""), ("VAULT_ADDR", "https://v.test")];
    let vault = server(&both).unwrap();
    assert_eq!(vault.address().to_string(), "https://v.test/");
    let bao = Settings::from_bao_env(&world(&both))
        .unwrap()
        .server()
        .unwrap();
    assert_eq!(bao.address().to_string(), "https://127.0.0.1:8200/");
    let only_vault = Settings::from_bao_env(&world(&both[1..]))
        .unwrap()
        .server()
        .unwrap();
    assert_eq!(only_vault.address().to_string(), "https://v.test/");
    let error = Settings::from_bao_env(&world(&[("BAO_SKIP_VERIFY", "1")])).unwrap_err();
    assert!(error.to_string().contains("BAO_SKIP_VERIFY"), "{error}");
}

#[test]
fn v38_half_of_a_client_certificate_is_an_error_that_names_the_other_half() {
    for (set, missing) in [
        ("VAULT_CLIENT_CERT", "VAULT_CLIENT_KEY"),
        ("VAULT_CLIENT_KEY", "VAULT_CLIENT_CERT"),
    ] {
        let error = server(&[(set, "/x.pem")]).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("{missing} is not set")), "{said}");
    }
    let files = [
        ("VAULT_CLIENT_CERT", "/no.pem"),
        ("VAULT_CLIENT_KEY", "/no-key.pem"),
    ];
    let error = server(&files).unwrap_err();
    assert!(error.to_string().contains("/no.pem"), "{error}");
}

#[test]
fn the_address_and_the_namespace_are_read() {
    for (variables, address, namespace) in [
        (&[][..], "https://127.0.0.1:8200/", None),
        (
            &[
                ("VAULT_ADDR", "https://v.test:8200/"),
                ("VAULT_NAMESPACE", "/a/"),
            ][..],
            "https://v.test:8200/",
            Some("a"),
        ),
        (
            &[
                ("VAULT_ADDR", "https://v.test"),
                ("VAULT_AGENT_ADDR", "http://127.0.0.1:8100"),
            ][..],
            "http://127.0.0.1:8100/",
            None,
        ),
        (
            &[("VAULT_ADDR", ""), ("VAULT_NAMESPACE", "")][..],
            "https://127.0.0.1:8200/",
            None,
        ),
        (
            &[("VAULT_ADDR", "unix:///run/vault.sock")][..],
            "http://localhost/",
            None,
        ),
    ] {
        let server = server(variables).unwrap();
        assert_eq!(server.address().to_string(), address);
        assert_eq!(server.namespace(), namespace);
    }
}

#[test]
fn clear_text_to_another_machine_is_asked_for_by_name() {
    let variables = [("VAULT_ADDR", "http://vault:8200")];
    let error = server(&variables).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("VAULT_ADDR") && said.contains("allowing_clear_text"),
        "{said}"
    );
    let settings = Settings::from_env(&world(&variables)).unwrap();
    let server = settings.allowing_clear_text().server().unwrap();
    assert_eq!(server.address().to_string(), "http://vault:8200/");
}

#[test]
fn a_value_that_cannot_be_meant_names_its_variable() {
    for (name, value) in [
        ("VAULT_CLIENT_TIMEOUT", "soon"),
        ("VAULT_CLIENT_TIMEOUT", "0"),
        ("VAULT_CAPATH", "/etc/certificates"),
        ("VAULT_CACERT", "/no/such/ca.pem"),
        ("VAULT_ADDR", "  "),
        ("VAULT_ADDR", "vault:8200"),
        ("VAULT_DISABLE_REDIRECTS", "maybe"),
    ] {
        let error = server(&[(name, value)]).unwrap_err();
        let said = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{said}");
        assert!(said.contains(name) || said.contains(value), "{said}");
    }
    for timeout in ["60", "60s", "1m", "1500ms", "0.5h"] {
        assert!(
            server(&[("VAULT_CLIENT_TIMEOUT", timeout)]).is_ok(),
            "{timeout}"
        );
    }
}

#[tokio::test]
async fn a_token_is_found_where_the_official_client_looks() {
    let bench = Bench::new();
    bench
        .endpoint
        .always(|_, _| Reply::json(r#"{"data":{"ttl":60}}"#));
    bench
        .files
        .write("/home/me/.vault-token", token("home").text());
    bench.files.write("/path", token("path").text());
    let variable = token("variable");
    let home = ("HOME", "/home/me");
    for (variables, name) in [
        (vec![home], "home"),
        (vec![home, ("VAULT_TOKEN", "")], "home"),
        (vec![home, ("VAULT_TOKEN_PATH", "/path")], "path"),
        (
            vec![
                home,
                ("VAULT_TOKEN_PATH", "/path"),
                ("VAULT_TOKEN", variable.text()),
            ],
            "variable",
        ),
    ] {
        let world = bench
            .world()
            .with_env(variables.into_iter().collect::<MapEnv>());
        let session = Session::new(bench.server(), Login::from_env(&world).unwrap());
        let stamped = fetch(&session, Reason::First).await.unwrap();
        assert_eq!(stamped.secret().expose(), token(name).text());
    }
    let error = Login::from_env(&World::closed()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConfigured);
    assert!(error.to_string().contains("VAULT_TOKEN"), "{error}");

    bench.endpoint.expect(Expect::any(), Reply::json("{}"));
    let env = MapEnv::from([("BAO_TOKEN", "canary-5eC7eT"), ("VAULT_TOKEN", "other")]);
    let login = Login::from_bao_env(&World::closed().with_env(env)).unwrap();
    assert!(!format!("{login:?}").contains("canary"));
}
