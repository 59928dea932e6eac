//! How fast a PostgreSQL store takes pushed work, with a small table and with a large one.
//!
//! ```text
//! cargo run --release -p cipherloom-store --example ingestion -- [ROWS] [BATCH]
//! ```
//!
//! A private server is started, and one client pushes batches of chains of 1 to 10 computations with two operands each, until the table
//! of outputs has ROWS rows [default: 2,000,000]. Half of the operands from outside of a chain are finished values, half are pending. It
//! prints the costs at 10 thousand rows and at the end, and their ratio: the time the caller waits, and the processor time of client
//! and server together, which does not depend on what else the machine does.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use cipherloom_primitives::{Address, B256, Computation, FheType, Handle, Operand, Operation, TypedOperation};
use cipherloom_private_postgres::PrivatePostgres;
use cipherloom_store::{
    ApiKey, NewTenant, PostgresConfig, PostgresDatabase, PostgresStore, PushedWork, RecordedTransaction, Store, StoredCiphertext, Tenants,
};

const CHAIN: u64 = 12345;

/// The lengths of chains, in turn.
const LENGTHS: [usize; 6] = [1, 2, 3, 4, 10, 4];

/// How many rows the small table has.
const SMALL: usize = 10_000;

/// How many computations are measured at each size.
const MEASURED: usize = 40_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rows: usize = arguments.next().map_or(Ok(2_000_000), |text| text.parse())?;
    let batch: usize = arguments.next().map_or(Ok(2_000), |text| text.parse())?;
    let buffers = arguments.next().unwrap_or_else(|| "1GB".to_owned());
    let server = PrivatePostgres::start_with(&[&format!("shared_buffers = {buffers}")])?;
    let database = PostgresDatabase::open(PostgresConfig::new(&server.create_database()?)?).await?;
    let mut node = Node::new(&database).await?;

    node.push_until(SMALL, batch).await?;
    let small = node.measure(batch, &server).await?;
    small.print(SMALL);
    node.push_until(rows, batch).await?;
    let large = node.measure(batch, &server).await?;
    large.print(rows);
    println!(
        "ratio: {:.2} of the time, {:.2} of the processor time",
        large.waited_us / small.waited_us,
        large.processor_us / small.processor_us
    );
    Ok(())
}

/// The costs of one computation.
struct Costs {
    waited_us: f64,
    processor_us: f64,
}

impl Costs {
    fn print(&self, rows: usize) {
        println!(
            "{rows} rows: {:.0} computations per second; {:.1} µs each, {:.1} µs of processor time",
            1e6 / self.waited_us,
            self.waited_us,
            self.processor_us
        );
    }
}

/// The processor time of this process and the server's, all of them together.
fn processor_time(server: &PrivatePostgres) -> Result<Duration, Box<dyn Error>> {
    let mut ticks = 0;
    let own = std::process::id().to_string();
    for process in server
        .execute("postgres", "SELECT pid FROM pg_stat_activity")?
        .split_whitespace()
        .chain([own.as_str()])
    {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else {
            continue;
        };
        // After the name in parentheses: the state is field 3, the times in user and system mode are fields 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        ticks += fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<u64>().ok())
            .sum::<u64>();
    }
    Ok(Duration::from_millis(ticks * 10))
}

/// What pushes.
struct Node {
    store: PostgresStore,
    random: u64,
    /// Values that are stored.
    finished: Vec<Handle>,
    /// The last results that were pushed.
    pending: Vec<Handle>,
    pushed: usize,
}

impl Node {
    async fn new(database: &PostgresDatabase) -> Result<Self, Box<dyn Error>> {
        let tenant = NewTenant {
            name: "bench".to_owned(),
            chain_id: CHAIN,
            acl: Address::repeat_byte(1),
            input_verifier: Address::repeat_byte(2),
            is_admin: false,
        };
        let tenant = database.add_tenant(&tenant, ApiKey::from_random([7; 16]).digest()).await?;
        let mut node = Self {
            store: database.store(&tenant),
            random: 1,
            finished: Vec::new(),
            pending: Vec::new(),
            pushed: 0,
        };
        node.finished = (0..1000).map(|_| node.handle()).collect();
        let stored: Vec<StoredCiphertext> = node
            .finished
            .iter()
            .map(|handle| StoredCiphertext::raw(*handle, B256::ZERO, B256::ZERO, vec![0; 32]))
            .collect();
        node.store.add_ciphertexts(&stored).await?;
        Ok(node)
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn hash(&mut self) -> B256 {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes.into()
    }

    fn handle(&mut self) -> Handle {
        Handle::computed(self.hash(), CHAIN, FheType::Uint64)
    }

    /// A value from outside.
    fn operand(&mut self) -> Handle {
        let number = usize::try_from(self.next() >> 33).unwrap_or_default();
        let from = match number % 2 {
            0 if !self.pending.is_empty() => &self.pending,
            _ => &self.finished,
        };
        from.get((number / 2) % from.len())
            .copied()
            .unwrap_or_else(|| Handle::computed(B256::ZERO, CHAIN, FheType::Uint64))
    }

    fn work(&mut self, batch: usize) -> PushedWork {
        let mut work = PushedWork::default();
        let (mut size, mut lengths) = (0, LENGTHS.iter().cycle());
        while size < batch {
            let length = (*lengths.next().unwrap_or(&1)).min(batch - size);
            let mut transaction = RecordedTransaction {
                hash: self.hash(),
                index: 0,
                computations: Vec::with_capacity(length),
                boundary: Vec::new(),
                outputs: Vec::with_capacity(length),
                grants: Vec::new(),
                delegations: Vec::new(),
            };
            for _ in 0..length {
                let right = self.operand();
                transaction.boundary.push(right);
                let left = match transaction.outputs.last() {
                    Some(last) => *last,
                    None => {
                        let left = self.operand();
                        transaction.boundary.push(left);
                        left
                    }
                };
                let result = self.handle();
                transaction.computations.push(Computation {
                    operation: TypedOperation::Binary {
                        operation: Operation::Add,
                        ty: FheType::Uint64,
                        rhs: Operand::Encrypted,
                    },
                    inputs: vec![left, right],
                    result,
                });
                transaction.outputs.push(result);
            }
            transaction.boundary.sort_unstable();
            transaction.boundary.dedup();
            size += length;
            work.transactions.push(transaction);
        }
        work
    }

    /// Pushes one batch and returns how long the store took.
    async fn push(&mut self, batch: usize) -> Result<Duration, Box<dyn Error>> {
        let work = self.work(batch);
        let start = Instant::now();
        self.store.record_pushed(CHAIN, &work).await?;
        let time = start.elapsed();
        self.pending = work
            .transactions
            .iter()
            .flat_map(|transaction| transaction.outputs.iter().copied())
            .collect();
        self.pushed += batch;
        Ok(time)
    }

    async fn push_until(&mut self, rows: usize, batch: usize) -> Result<(), Box<dyn Error>> {
        while self.pushed < rows {
            self.push(batch.min(rows - self.pushed)).await?;
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "printed")]
    async fn measure(&mut self, batch: usize, server: &PrivatePostgres) -> Result<Costs, Box<dyn Error>> {
        let (mut waited, mut computations) = (Duration::ZERO, 0);
        let before = processor_time(server)?;
        while computations < MEASURED {
            waited += self.push(batch).await?;
            computations += batch;
        }
        let processor = processor_time(server)? - before;
        let each_us = |time: Duration| time.as_secs_f64() * 1e6 / computations as f64;
        Ok(Costs {
            waited_us: each_us(waited),
            processor_us: each_us(processor),
        })
    }
}
