//! Where is measured: a private database with tenants of our own, or a deployment that runs already.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use cipherloom_fhe::{Decrypt, KeySet, ParameterSet};
use cipherloom_load::{Deployment, Process, Role, TenantAccess, TenantClient};
use tempfile::TempDir;

use super::options::CoprocessorBenchOptions;
use crate::{data_dir, database, keys};

/// How long a client asks again before it gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a process may take to end when it is told to.
const END: Duration = Duration::from_secs(60);

/// The longest file that is read as an API key, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// Where servers and workers are.
pub(super) enum Running {
    /// They are started here.
    Ours,
    /// A server runs already, for this tenant.
    Given(Arc<TenantAccess>),
}

/// A place to measure in.
pub(super) struct Place {
    running: Running,
    server: Option<String>,
    database_url: Option<String>,
    real_keys: Option<PathBuf>,
    real_parameters: ParameterSet,
    clear: KeySet,
    binary: PathBuf,
    directory: TempDir,
    /// Tenants that were added to a database that stays.
    added: std::sync::Mutex<Vec<(Deployment, String)>>,
    name: String,
    number: AtomicU32,
}

impl Place {
    /// Prepares directories and keys without any secrecy.
    ///
    /// # Errors
    /// If the database's schema cannot be brought up to date, or the API key cannot be read.
    pub(super) fn prepare(options: &CoprocessorBenchOptions) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory for keys and data")?;
        let clear = KeySet::generate(&directory.path().join("clear"), ParameterSet::InsecureClear, &())?;
        let running = match (&options.api_key_file, options.chain_id, options.acl_contract_address) {
            (Some(file), Some(chain_id), Some(acl)) => Running::Given(Arc::new(TenantAccess {
                name: "the given tenant".to_owned(),
                chain_id,
                acl,
                api_key: read_api_key(file)?,
            })),
            _ => Running::Ours,
        };
        #[cfg(feature = "insecure-development")]
        let real_parameters = if options.insecure_toy {
            ParameterSet::InsecureToy
        } else {
            ParameterSet::Production
        };
        #[cfg(not(feature = "insecure-development"))]
        let real_parameters = ParameterSet::Production;
        let place = Self {
            running,
            server: options.server.clone(),
            database_url: options.database_url.clone(),
            real_keys: options.keys.clone(),
            real_parameters,
            clear,
            binary: std::env::current_exe().context("cannot find this binary, which has to be started again")?,
            directory,
            added: std::sync::Mutex::default(),
            name: format!("bench-{}", hex::encode(database::random::<4>()?)),
            number: AtomicU32::new(0),
        };
        if let Some(url) = &place.database_url {
            Deployment::insecure_new(&place.binary, url, place.directory.path())?.run(&["db", "migrate"])?;
        }
        Ok(place)
    }

    /// Returns where servers and workers are.
    pub(super) const fn running(&self) -> &Running {
        &self.running
    }

    /// Names the place.
    pub(super) const fn describe(&self) -> &'static str {
        match (&self.server, &self.database_url) {
            (Some(_), _) => "a running deployment",
            (None, Some(_)) => "PostgreSQL",
            (None, None) => "SQLite",
        }
    }

    /// Says whether one process has the database for itself.
    pub(super) const fn is_embedded(&self) -> bool {
        self.server.is_none() && self.database_url.is_none()
    }

    /// Returns the key set that hides nothing.
    pub(super) const fn clear_keys(&self) -> &KeySet {
        &self.clear
    }

    /// Opens the key set of real ciphertexts, generating it if there is none.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(super) fn real_keys(&self) -> Result<Arc<KeySet>> {
        let directory = self.real_keys.clone().map_or_else(data_dir::default_keys, Ok)?;
        keys::open_or_generate(&directory, self.real_parameters)
    }

    /// Returns what decrypts the results of a deployment that runs already, if there is a key set for it.
    ///
    /// # Errors
    /// If the key set cannot be used.
    pub(super) fn given_decryptor(&self) -> Result<Option<Arc<dyn Decrypt>>> {
        let open = |directory: &PathBuf| anyhow::Ok(KeySet::open(directory)?.decryptor()?);
        self.real_keys.as_ref().map(open).transpose()
    }

    /// Makes a tenant for one measurement: on an embedded database, with a database of its own.
    ///
    /// # Errors
    /// If the database or the keys cannot be used.
    pub(super) fn tenant(&self, what: &str, keys: &Path) -> Result<(Deployment, Arc<TenantAccess>)> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.path().join(format!("{what}-{number}"));
        std::fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let url = match &self.database_url {
            Some(url) => url.clone(),
            None => format!("sqlite:{}", directory.join("store.sqlite").display()),
        };
        let deployment = Deployment::insecure_new(&self.binary, &url, &directory)?;
        let name = format!("{}-{what}", self.name);
        let tenant = deployment.add_tenant(&name, 7_000_000 + u64::from(number), Some(keys))?;
        if self.database_url.is_some()
            && let Ok(mut added) = self.added.lock()
        {
            added.push((deployment.clone(), name));
        }
        Ok((deployment, tenant))
    }

    /// Returns a client of a server.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub(super) fn client(&self, server: Option<&Process>, tenant: Arc<TenantAccess>) -> Result<TenantClient> {
        let url = match (server, &self.server) {
            (Some(process), _) => process.url()?,
            (None, Some(url)) => url.clone(),
            (None, None) => bail!("there is no server"),
        };
        Ok(TenantClient::new(&url, tenant, PATIENCE)?)
    }

    /// Removes what was added to a database that stays: workers serve every tenant there is, and would go on with it in the next measurement.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn clear(&self) -> Result<()> {
        let added = self.added.lock().map(|mut added| std::mem::take(&mut *added)).unwrap_or_default();
        for (deployment, name) in added {
            deployment
                .run(&["tenant", "remove", &name, "--with-all-data", "--json"])
                .with_context(|| format!("cannot remove tenant {name}"))?;
        }
        Ok(())
    }
}

/// How often workers are asked how far they are. Answering takes them about a millisecond of the CPU time that is measured.
#[derive(Clone, Copy)]
pub(super) struct Look(pub(super) Duration);

/// Servers and workers with one backlog: embedded, the server becomes the worker too.
pub(super) struct Crew {
    /// What computes.
    pub(super) workers: Vec<Process>,
    /// What answers; one of the workers if the database is embedded.
    server: Option<Process>,
}

impl Crew {
    /// Starts workers beside a server, or in its place.
    ///
    /// # Errors
    /// If a process does not start or end as it should.
    pub(super) fn start(deployment: &Deployment, server: Process, workers: u16, embedded: bool, more: &[&str]) -> Result<Self> {
        if embedded {
            server.terminate(END)?;
            let both = deployment.start(Role::Both, more)?;
            return Ok(Self {
                workers: vec![both],
                server: None,
            });
        }
        let workers = (0..workers)
            .map(|_| deployment.start(Role::Worker, more))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            workers,
            server: Some(server),
        })
    }

    /// Returns the process that answers clients.
    pub(super) fn server(&self) -> Option<&Process> {
        self.server.as_ref().or_else(|| self.workers.first())
    }

    /// Adds up a metric of all workers.
    ///
    /// # Errors
    /// If one does not answer.
    pub(super) fn metric(&self, name: &str) -> Result<f64> {
        self.workers.iter().map(|worker| Ok(worker.metric(name)?)).sum()
    }

    /// Waits until the workers have published so many transactions.
    ///
    /// # Errors
    /// If a worker ends, or nothing is published for minutes.
    pub(super) async fn until_published(&mut self, transactions: f64, look: Look, bar: &indicatif::ProgressBar) -> Result<()> {
        let (mut last, mut moved) = (0.0, std::time::Instant::now());
        loop {
            let published = self.metric("coprocessor_work_items_processed")?;
            if published >= transactions {
                return Ok(());
            }
            if published > last {
                (last, moved) = (published, std::time::Instant::now());
            }
            if moved.elapsed() > PATIENCE {
                bail!("the workers have published {published} of {transactions} transactions, and none for {PATIENCE:?}");
            }
            for worker in &mut self.workers {
                worker.check_running()?;
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
            bar.set_position(published as u64);
            tokio::time::sleep(look.0).await;
        }
    }

    /// Has all processes end.
    ///
    /// # Errors
    /// If one does not end well.
    pub(super) fn end(self) -> Result<()> {
        for process in self.workers.into_iter().chain(self.server) {
            process.terminate(END)?;
        }
        Ok(())
    }
}

fn read_api_key(file: &Path) -> Result<String> {
    let cannot_read = || format!("cannot read {}", file.display());
    if std::fs::metadata(file).with_context(cannot_read)?.len() > MAX_KEY_FILE_BYTES {
        bail!("{} is too large for an API key", file.display());
    }
    Ok(std::fs::read_to_string(file).with_context(cannot_read)?.trim().to_owned())
}
