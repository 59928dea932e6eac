//! One trace per transaction, whichever processes touch it.
//!
//! **Ids.** The trace id of a transaction is the first 16 bytes of its hash, and the id of the trace's first span the next 8. A hash is known
//! wherever the transaction is: nothing is stored or passed on for tracing, and given a hash an operator knows where to look.
//!
//! **Spans.** Whoever publishes a transaction's results sends the first span, from commit to publication ([`whole`]). What others do for it are
//! children of it ([`join`] for a span of [`tracing`], [`past`] for what is over already).
//!
//! **Sampling.** Whether a transaction is traced follows from `OTEL_TRACES_SAMPLER` and the trace id alone, so that all processes decide alike.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use opentelemetry::{
    Context, KeyValue, global,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{
        Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        Tracer as _,
    },
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{IdGenerator, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample as _},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The headers of W3C Trace Context.
const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// The name under which spans are made.
pub(crate) const TRACER: &str = "cipherloom";

/// The most links of one span; the specification's default limit.
const MAX_LINKS: usize = 128;

/// Whether spans are sent anywhere.
static SENDING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The ids that this thread's next span is to have.
    static FIXED: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// The hash of a transaction.
pub type Hash = [u8; 32];

/// Something that was done for a transaction and is over.
#[derive(Debug)]
pub struct Past {
    /// What was done.
    pub name: &'static str,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What else there is to say.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Says whether spans are sent anywhere. If not, everything here does nothing, at next to no cost.
#[must_use]
pub fn is_traced() -> bool {
    SENDING.load(Ordering::Relaxed)
}

pub(crate) fn begin_sending() {
    SENDING.store(true, Ordering::Relaxed);
}

pub(crate) fn end_sending() {
    SENDING.store(false, Ordering::Relaxed);
}

/// Makes a span that was not entered yet part of a transaction's trace.
pub fn join(span: &Span, transaction: &Hash) {
    if is_traced() {
        // It fails for a span that the filter leaves out, which is then not sent.
        let _ = span.set_parent(context(transaction));
    }
}

/// Makes a span that was not entered yet part of the caller's trace, if there is a `traceparent` among the headers (W3C Trace Context).
pub fn join_caller(span: &Span, header: impl Fn(&str) -> Option<String>) {
    if is_traced() {
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers::read(header));
        // It fails for a span that the filter leaves out, which is then not sent.
        let _ = span.set_parent(context);
    }
}

/// Links a span, such as that of a request, to transactions that came of it. A span has 128 links at most.
pub fn link<'a>(span: &Span, transactions: impl IntoIterator<Item = &'a Hash>) {
    if is_traced() {
        for transaction in transactions.into_iter().take(MAX_LINKS) {
            span.add_link(first(transaction));
        }
    }
}

/// Sends a span for something that was done for a transaction. `caused_by` is the span that it was done in, such as that of a request.
pub fn past(transaction: &Hash, past: Past, caused_by: &Span) {
    if is_traced() {
        let cause = caused_by.context().span().span_context().clone();
        send(past, &context(transaction), cause.is_valid().then_some(cause));
    }
}

/// Sends the first span of a transaction's trace, from its commit to its end. Once per transaction.
pub fn whole(transaction: &Hash, past: Past) {
    if is_traced() {
        let first = first(transaction);
        FIXED.set(Some((first.trace_id(), first.span_id())));
        send(past, &Context::new(), None);
        FIXED.set(None);
    }
}

fn send(past: Past, parent: &Context, link: Option<SpanContext>) {
    let attributes = past.attributes.into_iter().map(|(name, value)| KeyValue::new(name, value));
    let mut builder = SpanBuilder::from_name(past.name)
        .with_kind(SpanKind::Internal)
        .with_start_time(past.start)
        .with_attributes(attributes);
    builder.links = link.map(|link| vec![Link::with_context(link)]);
    let mut span = global::tracer(TRACER).build_with_context(builder, parent);
    if let Some(failure) = past.failure {
        span.set_status(Status::error(failure));
    }
    span.end_with_timestamp(past.end);
}

fn context(transaction: &Hash) -> Context {
    Context::new().with_remote_span_context(first(transaction))
}

/// Returns the ids of the first span of a transaction's trace.
fn first(transaction: &Hash) -> SpanContext {
    let (trace, span) = ids(transaction);
    let flags = if is_sampled(trace) {
        TraceFlags::SAMPLED
    } else {
        TraceFlags::NOT_SAMPLED
    };
    SpanContext::new(trace, span, flags, true, TraceState::NONE)
}

fn ids(transaction: &Hash) -> (TraceId, SpanId) {
    let number = |bytes: &[u8]| bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    let (trace, rest) = transaction.split_at(16);
    let (span, _) = rest.split_at(8);
    let span = u64::try_from(number(span)).expect("8 bytes are a number of 64 bits");
    (TraceId::from(number(trace)), SpanId::from(span))
}

/// Decides as the SDK's sampler does for a trace without a parent.
fn is_sampled(trace: TraceId) -> bool {
    static SAMPLER: OnceLock<Sampler> = OnceLock::new();
    let sampler = SAMPLER.get_or_init(|| {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        sampler(&variable("OTEL_TRACES_SAMPLER"), &variable("OTEL_TRACES_SAMPLER_ARG"))
    });
    let result = sampler.should_sample(None, trace, "transaction", &SpanKind::Internal, &[], &[]);
    result.decision == SamplingDecision::RecordAndSample
}

fn sampler(name: &str, argument: &str) -> Sampler {
    match name {
        "always_off" | "parentbased_always_off" => Sampler::AlwaysOff,
        "traceidratio" | "parentbased_traceidratio" => Sampler::TraceIdRatioBased(argument.parse().unwrap_or(1.0)),
        _ => Sampler::AlwaysOn,
    }
}

/// Makes ids at random, apart from those that are fixed.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    random: RandomIdGenerator,
}

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        FIXED.get().map_or_else(|| self.random.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        FIXED.get().map_or_else(|| self.random.new_span_id(), |(_, span)| span)
    }
}

/// The headers of a request that name its trace.
#[derive(Default)]
struct Headers {
    parent: Option<String>,
    state: Option<String>,
}

impl Headers {
    fn read(header: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            parent: header(PARENT),
            state: header(STATE),
        }
    }
}

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            PARENT => self.parent.as_deref(),
            STATE => self.state.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash() -> Hash {
        std::array::from_fn(|index| u8::try_from(index).unwrap() + 1)
    }

    #[test]
    fn a_trace_has_the_ids_that_its_transactions_hash_begins_with() {
        let (trace, span) = ids(&hash());
        assert_eq!(trace.to_string(), "0102030405060708090a0b0c0d0e0f10");
        assert_eq!(span.to_string(), "1112131415161718");
    }

    #[test]
    fn fixed_ids_are_used_for_one_span_only() {
        let generator = Ids::default();
        FIXED.set(Some(ids(&hash())));
        assert_eq!((generator.new_trace_id(), generator.new_span_id()), ids(&hash()));
        FIXED.set(None);
        assert_ne!(generator.new_trace_id(), generator.new_trace_id());
    }

    #[test]
    fn transactions_are_sampled_as_the_environment_says_by_their_trace_id() {
        let decide = |name: &str, argument: &str, trace: u128| {
            let sampler = sampler(name, argument);
            let result = sampler.should_sample(None, TraceId::from(trace), "transaction", &SpanKind::Internal, &[], &[]);
            result.decision == SamplingDecision::RecordAndSample
        };
        assert!(decide("", "", 7));
        assert!(decide("parentbased_always_on", "", 7));
        assert!(!decide("always_off", "", 7));
        assert!(decide("traceidratio", "0.5", 1));
        assert!(!decide("parentbased_traceidratio", "0.5", u128::MAX));
    }

    #[test]
    fn a_callers_trace_is_read_from_its_header() {
        let header = |name: &str| (name == PARENT).then(|| "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers::read(header));
        let span = context.span().span_context().clone();
        assert_eq!(span.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert!(span.is_sampled() && span.is_remote());
        let nothing = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers::read(|_| None));
        assert!(!nothing.span().span_context().is_valid());
    }
}
