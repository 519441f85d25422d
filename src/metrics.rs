//! Counters and histograms in Prometheus' text format. Knows names and numbers, not what they mean to the gate.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
    exponential_buckets,
};

/// Everything docket counts. Updating any of them takes no lock that a scrape holds.
pub struct Metrics {
    registry: Registry,
    /// `docket_decisions_total{effect,server}`.
    pub decisions: IntCounterVec,
    /// `docket_outcomes_total{outcome,server}`.
    pub outcomes: IntCounterVec,
    /// `docket_refused_total{reason}`: requests that got no decision of their own.
    pub refused: IntCounterVec,
    /// `docket_evaluation_seconds`.
    pub evaluation: Histogram,
    /// `docket_append_seconds`: from queueing an entry to its being durable.
    pub append: Histogram,
    /// `docket_upstream_seconds`: from forwarding to the end of the answer.
    pub upstream: Histogram,
    /// `docket_append_failures_total`.
    pub append_failures: IntCounter,
    /// `docket_evaluation_errors_total`: policy errors and timeouts.
    pub evaluation_errors: IntCounter,
    /// `docket_policy_publications_total{result}`: `updated`, `unchanged`, `rejected`.
    pub publications: IntCounterVec,
    /// `docket_policy_rejected`: 1 while the newest set was refused and an older one is in force.
    pub policy_rejected: IntGauge,
    /// `docket_traces_skipped_total`: refused calls that lost something to redaction and were not explained live.
    pub traces_skipped: IntCounter,
    /// `docket_mask_failures_total`: records withheld since `data.system.log` failed, or said what cannot be used.
    pub mask_failures: IntCounter,
    /// `docket_hook_calls_total{hook,result}`: `ok`, or the cause of a failure.
    pub hook_calls: IntCounterVec,
    /// `docket_hook_seconds{hook}`.
    pub hook_seconds: HistogramVec,
    queue_length: IntGauge,
}

impl Metrics {
    /// A registry of its own, so that several dockets may live in one process.
    ///
    /// # Errors
    /// Never in practice: a metric's name is malformed or taken twice.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        // 10 µs to 0.65 s, and 100 µs to 52 s.
        let (fast, slow) = (exponential_buckets(1e-5, 2.0, 17)?, exponential_buckets(1e-4, 3.0, 13)?);
        let counters =
            |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
        };
        let metrics = Self {
            decisions: counters(
                "docket_decisions_total",
                "Decisions by effect and server.",
                &["effect", "server"],
            )?,
            outcomes: counters(
                "docket_outcomes_total",
                "Outcomes of forwarded calls.",
                &["outcome", "server"],
            )?,
            refused: counters("docket_refused_total", "Requests refused before a decision.", &["reason"])?,
            evaluation: histogram("docket_evaluation_seconds", "Time spent evaluating policies.", &fast)?,
            append: histogram("docket_append_seconds", "Time until an entry was durable.", &fast)?,
            upstream: histogram("docket_upstream_seconds", "Time until a server's answer ended.", &slow)?,
            append_failures: IntCounter::new(
                "docket_append_failures_total",
                "Entries that could not be written.",
            )?,
            evaluation_errors: IntCounter::new(
                "docket_evaluation_errors_total",
                "Policy errors and timeouts.",
            )?,
            publications: counters(
                "docket_policy_publications_total",
                "Times the policy set was read again, by what came of it.",
                &["result"],
            )?,
            policy_rejected: IntGauge::new(
                "docket_policy_rejected",
                "1 while the newest policy set is refused and an older one in force.",
            )?,
            traces_skipped: IntCounter::new(
                "docket_traces_skipped_total",
                "Refused calls with redacted parts for which no live trace was taken.",
            )?,
            mask_failures: IntCounter::new(
                "docket_mask_failures_total",
                "Records withheld because masks could not be used.",
            )?,
            hook_calls: counters(
                "docket_hook_calls_total",
                "Records shown to redaction hooks, by what came of it.",
                &["hook", "result"],
            )?,
            hook_seconds: HistogramVec::new(
                HistogramOpts::new("docket_hook_seconds", "Time redaction hooks took for a record.")
                    .buckets(fast.clone()),
                &["hook"],
            )?,
            queue_length: IntGauge::new("docket_ledger_queue_length", "Entries waiting to be written.")?,
            registry,
        };
        for collector in [&metrics.decisions, &metrics.outcomes, &metrics.refused, &metrics.publications] {
            metrics.registry.register(Box::new(collector.clone()))?;
        }
        for collector in [&metrics.evaluation, &metrics.append, &metrics.upstream] {
            metrics.registry.register(Box::new(collector.clone()))?;
        }
        let counters = [&metrics.append_failures, &metrics.evaluation_errors, &metrics.traces_skipped];
        for collector in counters.into_iter().chain([&metrics.mask_failures]) {
            metrics.registry.register(Box::new(collector.clone()))?;
        }
        metrics.registry.register(Box::new(metrics.hook_calls.clone()))?;
        metrics.registry.register(Box::new(metrics.hook_seconds.clone()))?;
        for collector in [&metrics.queue_length, &metrics.policy_rejected] {
            metrics.registry.register(Box::new(collector.clone()))?;
        }
        Ok(metrics)
    }

    /// The text a scraper reads.
    #[must_use]
    pub fn render(&self, queue_length: usize) -> String {
        self.queue_length.set(i64::try_from(queue_length).unwrap_or(i64::MAX));
        // Encoding gathered families to a string cannot fail.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}
