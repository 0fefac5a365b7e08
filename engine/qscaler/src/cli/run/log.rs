//! Where the engine's log goes, and its traces where somebody collects them.

use std::io::IsTerminal;

use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, filter};

use super::LogFormat;

/// The variables of OpenTelemetry that say where its collector is; without one there are no traces.
#[cfg(feature = "opentelemetry")]
const COLLECTOR: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// What is to be told when the engine stops.
pub(super) struct Tracing {
    #[cfg(feature = "opentelemetry")]
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Tracing {
    /// Sends what was not sent yet.
    #[cfg_attr(
        not(feature = "opentelemetry"),
        expect(clippy::unused_async, reason = "there is nothing to send")
    )]
    pub(super) async fn end(self) {
        #[cfg(feature = "opentelemetry")]
        if let Some(provider) = self.provider {
            // The batch is sent by a task of this runtime, for which a thread of it must not wait.
            let _ = tokio::task::spawn_blocking(move || provider.shutdown()).await;
        }
    }
}

/// Begins the log, to standard error; and traces, where OpenTelemetry's variables name a collector. Must be
/// called in the runtime that sends them.
pub(super) fn start(format: LogFormat) -> Result<Tracing, String> {
    let level = EnvFilter::try_from_env("QSCALER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_target(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // Spans are for traces; a line says itself what it is about.
    let lines = lines.with_filter(filter::filter_fn(|it| !it.is_span())).with_filter(level);
    let registry = tracing_subscriber::registry().with(lines);
    #[cfg(feature = "opentelemetry")]
    {
        let provider = provider()?;
        let spans = provider.as_ref().map(|provider| {
            let tracer = opentelemetry::trace::TracerProvider::tracer(provider, "qscaler");
            let is_span = filter::filter_fn(|it| it.is_span() && it.target().starts_with("qscaler"));
            tracing_opentelemetry::layer().with_tracer(tracer).with_filter(is_span)
        });
        registry.with(spans).init();
        Ok(Tracing { provider })
    }
    #[cfg(not(feature = "opentelemetry"))]
    {
        registry.init();
        Ok(Tracing {})
    }
}

#[cfg(feature = "opentelemetry")]
fn provider() -> Result<Option<opentelemetry_sdk::trace::SdkTracerProvider>, String> {
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
    use opentelemetry_sdk::{Resource, runtime};

    let Some(variable) = COLLECTOR.into_iter().find(|name| std::env::var_os(name).is_some()) else {
        return Ok(None);
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().build();
    let exporter = exporter.map_err(|error| {
        format!("{variable}: {error}; write something like `http://127.0.0.1:4318`, or unset it")
    })?;
    let batches = BatchSpanProcessor::builder(exporter, runtime::Tokio).build();
    let resource = Resource::builder().with_service_name("qscaler").build();
    Ok(Some(SdkTracerProvider::builder().with_resource(resource).with_span_processor(batches).build()))
}
