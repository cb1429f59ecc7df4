use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{error::Elapsed, timeout};
use tower_auth_core::{Clock as _, Error, Fetch, Reason, TokenSource};

use super::{Fault, Harness, World};
use crate::{LeakGuard, Reply};

/// One test's harness, doubles and guard.
pub(super) struct Bench<H: Harness> {
    pub(super) harness: Arc<H>,
    pub(super) world: World,
    pub(super) guard: LeakGuard,
    plan: Arc<Mutex<Plan>>,
}

/// How the server departs from its good answers.
#[derive(Default)]
struct Plan {
    /// Which request meets which fault, counted over the whole test.
    fault: Option<(usize, Departure)>,
    /// For how many polls an answer is pending.
    polls: usize,
}

enum Departure {
    Fault(Fault),
    Reply(Reply),
}

/// Runs a test with paused time, and fails it if it has shown a secret.
pub(super) fn run<H, F>(harness: H, test: impl FnOnce(Bench<H>) -> F)
where
    H: Harness,
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("a runtime cannot be made: {error}"),
    };
    let guard = LeakGuard::new();
    guard.watch(&harness.secrets());
    let recording = guard.record_logs();
    runtime.block_on(async {
        let bench = Bench::new(harness, guard.clone());
        test(bench).await;
    });
    drop(recording);
    guard.assert_clean();
}

impl<H: Harness> Bench<H> {
    fn new(harness: H, guard: LeakGuard) -> Self {
        let harness = Arc::new(harness);
        let plan = Arc::new(Mutex::new(Plan::default()));
        let world = World::default();
        world.endpoint().always({
            let (harness, plan, clock) = (Arc::clone(&harness), Arc::clone(&plan), world.clock());
            move |request, nth| {
                let good = harness.answer(request, nth);
                let plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
                match &plan.fault {
                    Some((at, Departure::Fault(fault))) if *at == nth => {
                        fault.reply(request, good, clock.now())
                    }
                    Some((at, Departure::Reply(reply))) if *at == nth => reply.clone(),
                    _ => good.after_polls(plan.polls),
                }
            }
        });
        Self {
            harness,
            world,
            guard,
            plan,
        }
    }

    /// A new source, which has been looked at.
    pub(super) fn source(&self) -> H::Source {
        let source = self.harness.source(&self.world);
        self.guard.value("the source", &source);
        let description = source.describe();
        self.guard.value("the description", &description);
        self.guard.display("the description", &description);
        source
    }

    pub(super) fn cx(&self) -> Fetch<H::Credential> {
        self.harness.fetch(Reason::First)
    }

    /// The `nth` request from here on meets this fault.
    pub(super) fn inject(&self, nth: usize, fault: Fault) {
        self.depart(nth, Departure::Fault(fault));
    }

    /// The `nth` request from here on is answered like this.
    pub(super) fn answer_with(&self, nth: usize, reply: Reply) {
        self.depart(nth, Departure::Reply(reply));
    }

    /// Makes each answer pending for some polls.
    pub(super) fn slow_down(&self, polls: usize) {
        self.with_plan(|plan| plan.polls = polls);
    }

    /// Fetches, looking at whatever comes out, for an hour at most.
    pub(super) async fn try_fetch(
        &self,
        source: &H::Source,
        cx: &Fetch<H::Credential>,
    ) -> Result<Result<H::Credential, Error>, Elapsed> {
        let result = timeout(HOUR, source.fetch(cx)).await?;
        match &result {
            Ok(credential) => self.guard.value("the credential", credential),
            Err(error) => self.guard.error("the error", error),
        }
        self.guard.value("the source after a fetch", source);
        Ok(result)
    }

    /// Fetches, which has to succeed.
    pub(super) async fn fetch(&self, source: &H::Source, cx: &Fetch<H::Credential>, when: &str) {
        match self.try_fetch(source, cx).await {
            Ok(Ok(credential)) => self.harness.check(&credential),
            Ok(Err(error)) => {
                // What is about to be printed must not be what is looked for.
                self.guard.assert_clean();
                panic!("{when}, a fetch from a healthy server failed: {error:?}")
            }
            Err(_) => panic!("{when}, a fetch from a healthy server hung"),
        }
    }

    /// How many requests have arrived.
    pub(super) fn requests(&self) -> usize {
        self.world.endpoint().request_count()
    }

    fn depart(&self, nth: usize, departure: Departure) {
        let at = self.requests() + nth;
        self.with_plan(|plan| plan.fault = Some((at, departure)));
    }

    fn with_plan(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// In paused time this is no time at all.
const HOUR: Duration = Duration::from_secs(3600);
