//! Shows: several sources of which the first that is configured is used, and what there is to know when an
//!        API refuses the credential.
//! Run:   cargo run --example chain_and_diagnosis
//!        EXAMPLE_TOKEN=changeme cargo run --example chain_and_diagnosis
//!        EXAMPLE_API_KEY= EXAMPLE_TOKEN_FILE=/etc/hostname cargo run --example chain_and_diagnosis -- --json
//! Needs: nothing. It reads three variables and at most one file of this machine, and asks nobody.

#![expect(clippy::print_stdout, reason = "an example says what happened")]

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::{
    AuthLayer, BoxError, Chain, Description, Error, ErrorKind, Fetch, Placement, Prefix, Receipt,
    Secret, Token, TokenSource,
};
use tower_auth_io::{TokenFile, World};

/// A credential in a variable, and what those of its issuer look like.
struct Variable {
    name: &'static str,
    place: Placement,
    value: Secret,
}

impl Variable {
    /// Reads it once, so that whether it is set is known from the start.
    fn read(world: &World, name: &'static str, place: Placement) -> Result<Self, Error> {
        let value = world.env().require_secret(name);
        Ok(Self {
            name,
            place,
            value: value.map_err(|error| error.with_source_name(name))?,
        })
    }
}

impl TokenSource for Variable {
    async fn fetch(&self, _cx: &Fetch) -> Result<Token, Error> {
        let token = Token::bearer(self.value.clone()).with_placement(self.place.clone());
        Ok(token.never_expires())
    }

    fn describe(&self) -> Description {
        Description::new(self.name)
            .with_setting("credential", format!("variable {}", self.name))
            .with_prefix(Prefix::new("ex-key-", "an API key of Example").belongs_in(api_key()))
            .with_prefix(Prefix::new("ex-oat-", "an OAuth token of Example").belongs_in(bearer()))
    }
}

fn api_key() -> Placement {
    Placement::header(HeaderName::from_static("x-api-key"))
}

fn bearer() -> Placement {
    Placement::authorization("Bearer")
}

/// The file that a variable names.
fn token_file(world: &World) -> Result<TokenFile, Error> {
    let path = world.env().require("EXAMPLE_TOKEN_FILE");
    let file = path.and_then(TokenFile::new);
    Ok(file
        .map_err(|error| error.with_source_name("token file"))?
        .with_files(Arc::clone(world.files())))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let world = World::system()?;
    let chain = Chain::new("example API")
        .or_if_configured(Variable::read(&world, "EXAMPLE_API_KEY", api_key()))
        .or_if_configured(Variable::read(&world, "EXAMPLE_TOKEN", bearer()))
        .or_if_configured(token_file(&world));
    let layer = AuthLayer::new(chain);
    let cache = layer.cache().clone();

    if let Err(error) = cache.ready().await {
        println!("There is no credential.\n\n{error}\n");
        if error.kind() == ErrorKind::NotConfigured {
            println!("Set one of the variables, as the head of this example shows.\n");
        }
    }

    // An API that takes nothing.
    let api = service_fn(|_: Request<Bytes>| async {
        Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header("www-authenticate", "Bearer error=\"invalid_token\"")
            .body(Bytes::new())
    });
    let request = Request::get("https://api.example.com/").body(Bytes::new())?;
    let report = match layer.layer(api).oneshot(request).await {
        Ok(response) => {
            let receipt = response.extensions().get::<Receipt>();
            receipt.and_then(Receipt::diagnose)
        }
        Err(_) => None,
    };
    let report = report.unwrap_or_else(|| cache.diagnose());

    if std::env::args().any(|argument| argument == "--json") {
        println!("{}", report.to_json());
    } else {
        println!("{report}");
    }
    Ok(())
}
