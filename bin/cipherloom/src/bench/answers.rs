//! The second part of `cipherloom bench decrypt`: how long a client waits for the decryption of a computed value, and for what.
//!
//! Requests go over HTTP to the gateway of a whole stack, one at a time, and no two are equal, because the gateway would answer the second from the first.
//! Each answer comes after the checks on the chain and with the record in the audit log on disk. The bare decryption is the same ciphertext decrypted
//! with nothing around it, in the same run.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cipherloom_kms::Step;
use cipherloom_primitives::Handle;
use serde_json::{Map, Value, json};

use super::{
    decryptable::{Decryptable, Route},
    ground::Ground,
    latency::{Latencies, milliseconds},
    options::DecryptOptions,
};

/// The fewest handles: lists of eight are asked for in as many orders as there are handles.
pub(crate) const FEWEST_HANDLES: i64 = 8;

/// How many values requests for several ask for.
const SEVERAL: usize = 8;

/// What was found out about answers.
pub(crate) struct Answers {
    series: Vec<Series>,
    bare: Latencies,
}

/// Equal requests.
struct Series {
    name: &'static str,
    route: Route,
    values: usize,
    latencies: Latencies,
    /// What the KMS spent on each step, in milliseconds for each request.
    steps: [f64; Step::ALL.len()],
}

impl Series {
    /// Returns what was spent outside of the KMS: on HTTP, on the job, and between the two.
    fn outside(&self) -> f64 {
        (self.latencies.mean_ms() - self.steps.iter().sum::<f64>()).max(0.0)
    }
}

impl Answers {
    /// Starts a stack and measures.
    ///
    /// # Errors
    /// If anything fails or a value comes out wrong.
    pub(crate) fn measure(ground: &Ground, options: &DecryptOptions) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
        runtime.context("cannot start the runtime")?.block_on(Box::pin(async {
            let decryptable = Box::pin(Decryptable::prepare(ground, options.handles)).await?;
            let answers = Box::pin(measure(ground, &decryptable, options)).await;
            decryptable.stack.shutdown().await;
            answers
        }))
    }

    /// Prints the table.
    pub(crate) fn print(&self) {
        println!("\nAnswers of a whole stack: ms that a client waits for computed values, one request at a time\n");
        let mut head = format!(
            "{:<22} {:<5} {:>6} {:>8} {:>8} {:>8} {:>8} |",
            "request", "route", "values", "p50", "p95", "p99", "mean"
        );
        for step in Step::ALL {
            head += &format!(" {:>11}", step.name());
        }
        println!("{head} {:>8}", "outside");
        for series in &self.series {
            let percentile = |percent| series.latencies.percentile_ms(percent);
            let mut line = format!(
                "{:<22} {:<5} {:>6} {:>8.2} {:>8.2} {:>8.2} {:>8.2} |",
                series.name,
                series.route.name(),
                series.values,
                percentile(50),
                percentile(95),
                percentile(99),
                series.latencies.mean_ms()
            );
            for step in series.steps {
                line += &format!(" {step:>11.3}");
            }
            println!("{line} {:>8.2}", series.outside());
        }
        println!("\nright of the bar: where the mean goes, in the KMS and outside of it");
        println!(
            "bare decryption of one value {:.3} ms; a public answer at once takes {:.0} times that, {:.1} % of it for other things",
            self.bare.mean_ms(),
            self.ratio(),
            self.share_of_the_rest() * 100.0
        );
    }

    /// Writes it for programs.
    pub(crate) fn json(&self) -> Value {
        let series = |series: &Series| {
            let steps: Map<String, Value> = Step::ALL
                .iter()
                .zip(series.steps)
                .map(|(step, mean)| (step.name().to_owned(), json!(mean)))
                .collect();
            json!({
                "request": series.name,
                "route": series.route.name(),
                "values": series.values,
                "latency": series.latencies.json(),
                "kms_mean_ms": steps,
                "outside_mean_ms": series.outside(),
            })
        };
        json!({
            "series": self.series.iter().map(series).collect::<Vec<_>>(),
            "bare_decryption_ms": self.bare.mean_ms(),
            "ratio_to_bare_decryption": self.ratio(),
            "share_outside_decryption": self.share_of_the_rest(),
        })
    }

    /// Returns how many bare decryptions a public answer of version 1 takes.
    fn ratio(&self) -> f64 {
        self.reference().map_or(0.0, |series| series.latencies.percentile_ms(50)) / self.bare.mean_ms()
    }

    /// Returns which part of such an answer is not the decryption itself.
    fn share_of_the_rest(&self) -> f64 {
        let share = |series: &Series| {
            let [.., decryption, _, _] = series.steps;
            1.0 - decryption / series.latencies.mean_ms()
        };
        self.reference().map_or(0.0, share)
    }

    fn reference(&self) -> Option<&Series> {
        self.series
            .iter()
            .find(|series| series.name == PUBLIC && series.route == Route::Synchronous && series.values == 1)
    }
}

const FIRST: &str = "public, first time";
const PUBLIC: &str = "public";
const USER: &str = "user";

async fn measure(ground: &Ground, stack: &Decryptable, options: &DecryptOptions) -> Result<Answers> {
    let (context, epoch) = stack.stack.host().kms_context_and_epoch().await?;
    let extra_data: [Vec<u8>; 4] = [
        vec![0],
        vec![],
        [&[1], context.to_be_bytes::<32>().as_slice()].concat(),
        [&[2], context.to_be_bytes::<32>().as_slice(), epoch.to_be_bytes::<32>().as_slice()].concat(),
    ];
    let [plain, empty, of_context, of_epoch] = &extra_data;
    let mut series = Vec::new();
    // In this order, because what is decrypted once is ready the next time.
    for (name, route, extra_data) in [
        (FIRST, Route::Synchronous, plain),
        (PUBLIC, Route::Synchronous, of_context),
        (PUBLIC, Route::Jobs, of_epoch),
    ] {
        let mut meter = Meter::start(stack);
        for value in &stack.public {
            meter.add(stack.public(route, std::slice::from_ref(value), extra_data).await?);
        }
        series.push(meter.end(name, route, 1));
    }
    let several = SEVERAL.min(stack.public.len());
    for (route, extra_data) in [(Route::Synchronous, plain), (Route::Jobs, empty)] {
        let mut meter = Meter::start(stack);
        for values in rotations(&stack.public) {
            meter.add(stack.public(route, values.get(..several).unwrap_or(&values), extra_data).await?);
        }
        series.push(meter.end(PUBLIC, route, several));
    }
    stack.check_private().await?;
    for (route, count) in [(Route::Synchronous, 1), (Route::Jobs, 1), (Route::Synchronous, several)] {
        let mut meter = Meter::start(stack);
        for values in rotations(&stack.private) {
            meter.add(stack.user(route, values.get(..count).unwrap_or(&values)).await?);
        }
        series.push(meter.end(USER, route, count));
    }
    Ok(Answers {
        series,
        bare: Box::pin(bare(ground, stack, options.rounds)).await?,
    })
}

/// Decrypts the same ciphertexts with nothing around.
async fn bare(ground: &Ground, stack: &Decryptable, rounds: u16) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for (handle, value) in &stack.public {
        let stored = stack.stack.coprocessor().signed_ciphertext(*handle).await?;
        for _ in 0..rounds {
            let start = std::time::Instant::now();
            let found = ground.decrypt(handle.fhe_type(), &stored.bytes)?;
            latencies.add(start.elapsed());
            ensure!(found == cipherloom_primitives::U256::from(*value), "{value} came out as {found}");
        }
    }
    Ok(latencies)
}

/// Returns the list as often as it is long, beginning with another one each time.
fn rotations(values: &[(Handle, u64)]) -> impl Iterator<Item = Vec<(Handle, u64)>> + '_ {
    (0..values.len()).map(|first| {
        let mut rotated = values.to_vec();
        rotated.rotate_left(first);
        rotated
    })
}

/// Measures a series.
struct Meter<'a> {
    stack: &'a Decryptable,
    latencies: Latencies,
    steps_before: [Duration; Step::ALL.len()],
}

impl<'a> Meter<'a> {
    fn start(stack: &'a Decryptable) -> Self {
        Self {
            stack,
            latencies: Latencies::default(),
            steps_before: steps(stack),
        }
    }

    fn add(&mut self, took: Duration) {
        self.latencies.add(took);
    }

    fn end(self, name: &'static str, route: Route, values: usize) -> Series {
        let count = u32::try_from(self.latencies.count()).unwrap_or(u32::MAX).max(1);
        let mut steps = steps(self.stack);
        for (step, before) in steps.iter_mut().zip(self.steps_before) {
            *step = step.saturating_sub(before) / count;
        }
        Series {
            name,
            route,
            values,
            latencies: self.latencies,
            steps: steps.map(milliseconds),
        }
    }
}

fn steps(stack: &Decryptable) -> [Duration; Step::ALL.len()] {
    Step::ALL.map(|step| stack.stack.kms().map_or(Duration::ZERO, |kms| kms.timings().of(step)))
}
