use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::Gate;

/// How a [`FakeEndpoint`](crate::FakeEndpoint) answers, well or badly.
///
/// ```
/// use std::time::Duration;
/// use tower_auth_testing::Reply;
///
/// let good = Reply::json(r#"{"access_token":"t"}"#).after(Duration::from_secs(2));
/// let busy = Reply::status(429).with_retry_after(Duration::from_secs(7));
/// let broken = Reply::json(r#"{"access_token":"t"}"#).breaking_off(10);
/// # let _ = (good, busy, broken);
/// ```
#[derive(Clone, Debug)]
#[must_use = "an answer does nothing until an endpoint has it"]
pub struct Reply {
    delay: Duration,
    yields: usize,
    gate: Option<Gate>,
    deed: Deed,
}

/// The body of an answer: all at once, or a part and then an error.
#[derive(Debug)]
pub struct ReplyBody {
    data: Option<Bytes>,
    breaks_off: bool,
}

#[derive(Clone)]
enum Deed {
    Answer {
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
        breaks_off: bool,
    },
    Fail(io::ErrorKind),
    Hang,
}

impl Reply {
    /// Status 200 with this text, as `application/json`.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::whole(StatusCode::OK, body).with_header(CONTENT_TYPE, "application/json")
    }

    /// Status 200 with this text, as `text/html`: a captive portal, a proxy's own page.
    pub fn html(body: impl Into<Bytes>) -> Self {
        Self::whole(StatusCode::OK, body).with_header(CONTENT_TYPE, "text/html; charset=utf-8")
    }

    /// This status with an empty body.
    ///
    /// # Panics
    /// If it is not a status, that is not within 100 to 999.
    #[track_caller]
    pub fn status(status: u16) -> Self {
        Self::whole(valid_status(status), Bytes::new())
    }

    /// Status 302 to this place.
    ///
    /// # Panics
    /// If `location` has a character that no header may have.
    #[track_caller]
    pub fn redirect(location: &str) -> Self {
        Self::status(302).with_header(LOCATION, location)
    }

    /// Status 200 with a JSON text of this many bytes that goes on and on.
    pub fn oversize(bytes: usize) -> Self {
        let mut body = br#"{"padding":""#.to_vec();
        body.resize(bytes, b'x');
        Self::json(body)
    }

    /// The connection is reset before there is an answer.
    pub fn reset() -> Self {
        Self::of(Deed::Fail(io::ErrorKind::ConnectionReset))
    }

    /// The client's connection cannot be made.
    pub fn refused() -> Self {
        Self::of(Deed::Fail(io::ErrorKind::ConnectionRefused))
    }

    /// The client's own time limit runs out.
    pub fn timed_out() -> Self {
        Self::of(Deed::Fail(io::ErrorKind::TimedOut))
    }

    /// There is never an answer.
    pub fn hang() -> Self {
        Self::of(Deed::Hang)
    }

    /// The same with another status.
    ///
    /// # Panics
    /// If it is not a status, that is not within 100 to 999.
    #[track_caller]
    pub fn with_status(mut self, new: u16) -> Self {
        if let Deed::Answer { status, .. } = &mut self.deed {
            *status = valid_status(new);
        }
        self
    }

    /// The same with this header instead of any other of its name.
    ///
    /// # Panics
    /// If `value` has a character that no header may have.
    #[track_caller]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        let Ok(value) = HeaderValue::from_str(value) else {
            panic!("the value for {name} cannot be in a header");
        };
        if let Deed::Answer { headers, .. } = &mut self.deed {
            headers.insert(name, value);
        }
        self
    }

    /// Asks to be left alone for this long, in whole seconds (RFC 9110 section 10.2.3).
    pub fn with_retry_after(self, delay: Duration) -> Self {
        self.with_header(RETRY_AFTER, &delay.as_secs().to_string())
    }

    /// Asks to be left alone until then, as a date, the other form of RFC 9110 section 10.2.3.
    pub fn with_retry_after_date(self, until: SystemTime) -> Self {
        self.with_header(RETRY_AFTER, &httpdate::fmt_http_date(until))
    }

    /// Says what time it is at the server (RFC 9110 section 6.6.1).
    pub fn with_date(self, now: SystemTime) -> Self {
        self.with_header(DATE, &httpdate::fmt_http_date(now))
    }

    /// Ends well after this many bytes of its body, as if the text had been cut.
    pub fn truncated(mut self, bytes: usize) -> Self {
        if let Deed::Answer { body, .. } = &mut self.deed {
            body.truncate(bytes);
        }
        self
    }

    /// Loses the connection after this many bytes of its body.
    pub fn breaking_off(self, bytes: usize) -> Self {
        let mut cut = self.truncated(bytes);
        if let Deed::Answer { breaks_off, .. } = &mut cut.deed {
            *breaks_off = true;
        }
        cut
    }

    /// The same, this much of tokio's time later.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The same, after it has been pending for this many polls: places where a caller can give up.
    pub fn after_polls(mut self, polls: usize) -> Self {
        self.yields = polls;
        self
    }

    /// The same, once the test has opened the gate.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    /// The body, empty where there is no answer.
    pub(crate) fn body(&self) -> Bytes {
        match &self.deed {
            Deed::Answer { body, .. } => body.clone(),
            Deed::Fail(_) | Deed::Hang => Bytes::new(),
        }
    }

    pub(super) async fn play(self) -> io::Result<Response<ReplyBody>> {
        for _ in 0..self.yields {
            pending_once().await;
        }
        if let Some(gate) = &self.gate {
            gate.pass().await;
        }
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        match self.deed {
            Deed::Answer {
                status,
                headers,
                body,
                breaks_off,
            } => {
                let mut response = Response::new(ReplyBody {
                    data: Some(body).filter(|body| !body.is_empty()),
                    breaks_off,
                });
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                Ok(response)
            }
            Deed::Fail(kind) => Err(io::Error::from(kind)),
            Deed::Hang => std::future::pending().await,
        }
    }

    fn whole(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::of(Deed::Answer {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
            breaks_off: false,
        })
    }

    fn of(deed: Deed) -> Self {
        Self {
            delay: Duration::ZERO,
            yields: 0,
            gate: None,
            deed,
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let breaks_off = std::mem::take(&mut self.breaks_off);
        let error = || Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        Poll::Ready(breaks_off.then(error))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && !self.breaks_off
    }

    fn size_hint(&self) -> SizeHint {
        // Without a length, as a chunked answer: a reader has to bound what it reads by itself.
        SizeHint::default()
    }
}

/// Says what is done without showing what is sent.
impl std::fmt::Debug for Deed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer { status, body, .. } => {
                write!(f, "Answer({}, {} bytes)", status.as_u16(), body.len())
            }
            Self::Fail(kind) => write!(f, "Fail({kind:?})"),
            Self::Hang => f.write_str("Hang"),
        }
    }
}

#[track_caller]
fn valid_status(status: u16) -> StatusCode {
    match StatusCode::from_u16(status) {
        Ok(status) => status,
        Err(_) => panic!("{status} is not an HTTP status"),
    }
}

/// Is pending at its first poll. Unlike tokio's `yield_now` it does not depend on a runtime.
async fn pending_once() {
    let mut is_first = true;
    std::future::poll_fn(|task| {
        if std::mem::take(&mut is_first) {
            task.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}
