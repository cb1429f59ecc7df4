use std::fmt;
use std::sync::Arc;

use tower_auth_core::{BoxError, Clock, Error, ErrorKind};

use crate::{
    Env, Files, ManualClock, MapEnv, MemoryFiles, Random, Run, ScriptedRun, SeededRandom,
    SystemClock, SystemEnv, SystemFiles, SystemRandom, Transport,
};

/// Everything outside the program that a source may need, as one argument.
///
/// ```
/// use tower_auth_io::{Env, MapEnv, World};
///
/// /// What the constructor of a source looks like.
/// fn tenant(world: &World) -> Result<String, tower_auth_core::Error> {
///     world.env().require("TENANT")
/// }
///
/// let world = World::closed().with_env(MapEnv::from([("TENANT", "t1")]));
/// assert_eq!(tenant(&world)?, "t1");
/// # Ok::<(), tower_auth_core::Error>(())
/// ```
#[derive(Clone)]
pub struct World {
    transport: Transport,
    files: Arc<dyn Files>,
    run: Arc<dyn Run>,
    env: Arc<dyn Env>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl World {
    /// This machine, with this way to reach others.
    #[must_use]
    pub fn new(transport: Transport) -> Self {
        Self {
            transport,
            files: Arc::new(SystemFiles::new()),
            #[cfg(feature = "process")]
            run: Arc::new(crate::SystemRun),
            #[cfg(not(feature = "process"))]
            run: Arc::new(ScriptedRun::new()),
            env: Arc::new(SystemEnv),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        }
    }

    /// This machine, reaching others with the client that comes with these crates.
    ///
    /// # Errors
    /// As [`Client::transport`](crate::Client::transport).
    #[cfg(feature = "hyper")]
    pub fn system() -> Result<Self, Error> {
        Transport::https().map(Self::new)
    }

    /// A world for tests in which there is nothing: no answer to any request, no file, no program, no
    /// variable. Its clock stands at 2030-01-01T00:00:00Z and its random numbers are always the same.
    #[must_use]
    pub fn closed() -> Self {
        Self {
            transport: Transport::new(tower::service_fn(|_| {
                std::future::ready(Err::<_, BoxError>(
                    Error::new(ErrorKind::Unavailable, "there is no network").into(),
                ))
            })),
            files: Arc::new(MemoryFiles::new()),
            run: Arc::new(ScriptedRun::new()),
            env: Arc::new(MapEnv::new()),
            clock: Arc::new(ManualClock::default()),
            random: Arc::new(SeededRandom::new(0)),
        }
    }

    /// Reaches others in another way.
    #[must_use]
    pub fn with_transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Reads other files.
    #[must_use]
    pub fn with_files(mut self, files: impl Files) -> Self {
        self.files = Arc::new(files);
        self
    }

    /// Runs programs in another way.
    #[must_use]
    pub fn with_run(mut self, run: impl Run) -> Self {
        self.run = Arc::new(run);
        self
    }

    /// Reads other variables.
    #[must_use]
    pub fn with_env(mut self, env: impl Env) -> Self {
        self.env = Arc::new(env);
        self
    }

    /// Looks at another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Draws other random numbers.
    #[must_use]
    pub fn with_random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// How others are reached.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    /// What runs programs.
    #[must_use]
    pub fn run(&self) -> &Arc<dyn Run> {
        &self.run
    }

    /// The environment variables.
    #[must_use]
    pub fn env(&self) -> &Arc<dyn Env> {
        &self.env
    }

    /// The wall clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The random numbers.
    #[must_use]
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.random
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::Request;

    #[tokio::test]
    async fn a_closed_world_has_nothing_to_give() {
        let world = World::closed();
        assert_eq!(world.env().get("PATH").unwrap(), None);
        let request = Request::get("https://a.test/").body(Bytes::new()).unwrap();
        let error = world.transport().send(request).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no network (a.test/)");
        let error = world.files().read_text("/f".as_ref()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        let command = crate::Command::new("sh");
        let error = world.run().run(&command).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConfigured);
        assert_eq!(world.clock().now(), World::closed().clock().now());
        assert_eq!(
            world.random().uuid().unwrap(),
            World::closed().random().uuid().unwrap()
        );
    }
}
