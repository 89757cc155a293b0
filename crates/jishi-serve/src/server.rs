//! From a socket to answers: connections, their bounds, and the end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::response::Response;
use burn::tensor::Device;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use jishi_kernels::cpu::matvec::Format;
use jishi_recipe::Problem;
use jishi_train::TrainError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::app::{Shared, router};
use crate::audit::Audit;
use crate::gate::Peer;
use crate::keys::Keys;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::model::{Loading, Model, ModelSource};
use crate::reload::Keeper;
use crate::studio;
use crate::ticket::Books;
use crate::tls;

/// Bytes of a request's head at most.
const HEAD: usize = 32 << 10;
/// Threads that read requests and write answers. Models compute on others.
const THREADS: usize = 4;

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes one that is free.
    pub listen: SocketAddr,
    /// Which models.
    pub models: Vec<ModelSource>,
    /// Folder that holds the runs.
    pub root: PathBuf,
    /// Number type of the weights of models that write text.
    pub format: Option<Format>,
    /// Bounds on requests.
    pub limits: Limits,
    /// A file of keys. Without one, everybody who reaches the address may ask.
    pub keys: Option<PathBuf>,
    /// Others than this machine may reach the server without a key.
    pub no_keys: bool,
    /// Files of a certificate and of its private key: the server then speaks HTTPS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// A log with a line for each request.
    pub audit: Option<PathBuf>,
    /// Whether the log has inputs themselves, and not their hashes.
    pub audit_inputs: bool,
    /// Whether each request is told on stderr.
    pub access_log: bool,
    /// How often packages and keys are looked at; zero for never.
    pub watch: Duration,
    /// Pages for people, where there are to be any.
    pub studio: Option<studio::Options>,
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be used, or a model is not what was said.
    #[error(transparent)]
    Bad(#[from] jishi_recipe::Problems),
    /// A model can't be loaded.
    #[error(transparent)]
    Model(#[from] TrainError),
    /// The system refused.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// A server that listens.
pub struct Server {
    runtime: tokio::runtime::Runtime,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    options: Options,
}

impl Options {
    /// No models and no pages yet, with the usual bounds.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            models: Vec::new(),
            root: "runs".into(),
            format: None,
            limits: Limits::default(),
            keys: None,
            no_keys: false,
            tls: None,
            audit: None,
            audit_inputs: false,
            access_log: false,
            watch: Duration::from_secs(1),
            studio: None,
        }
    }
}

impl Server {
    /// Takes the address. Nobody is answered before [`Server::run`].
    ///
    /// # Errors
    /// An address that is taken, or not one of this machine; one that others reach, without keys; a file of keys that is
    /// wrong; an audit log that can't be written.
    pub fn bind(options: Options) -> Result<Self, ServeError> {
        if options.keys.is_none() && !options.no_keys && !options.listen.ip().is_loopback() {
            return Err(open_to_all(options.listen));
        }
        let keys = options.keys.as_deref().map(Keys::read).transpose()?;
        let tls = options.tls.as_ref().map(|(cert, key)| tls::acceptor(cert, key)).transpose()?;
        let audit = options.audit.as_deref().map(|path| Audit::open(path, options.audit_inputs));
        let audit = audit.transpose().map_err(|problem| ServeError::Bad(problem.into()))?;
        let books = Arc::new(Books { audit, access: options.access_log, metrics: Metrics::default() });
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(2 * threads + 2)
            .thread_name("jishi-http")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind(options.listen));
        let listener = listener.map_err(|error| cannot_listen(options.listen, &error))?;
        let shared = Arc::new(Shared::new(Arc::new(options.limits.clone()), books, keys));
        Ok(Self { runtime, listener, tls, shared, options })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Loads the models and answers until `end` says true, or the process is told to end (SIGTERM, SIGINT). Requests that
    /// run then get [`Limits::drain`] to end. `ready` hears of it when all models are there; until then `/readyz`
    /// says no.
    ///
    /// # Errors
    /// A model that can't be loaded.
    pub fn run(
        self,
        device: &Device,
        mut end: watch::Receiver<bool>,
        mut progress: impl FnMut(&str) + Send + 'static,
        ready: impl FnOnce(&[Arc<Model>]) + Send + 'static,
    ) -> Result<(), ServeError> {
        let Self { runtime, listener, tls, shared, options } = self;
        let (limits, books) = (Arc::clone(&shared.limits), Arc::clone(&shared.books));
        let Options { models, root, format, watch, studio: pages, .. } = options;
        let pages = pages.map(|pages| studio::router(pages, Arc::clone(&shared), device)).unwrap_or_default();
        let loading = Loading {
            root,
            format,
            device: device.clone(),
            limits: Arc::clone(&limits),
            books: books.clone(),
        };
        let keeper = Arc::new(Keeper::new(models, loading, Arc::clone(&shared)));
        let result = runtime.block_on(async move {
            let (loading, keeps) = (Arc::clone(&shared), Arc::clone(&keeper));
            let load = tokio::task::spawn_blocking(move || -> Result<(), ServeError> {
                let models = keeps.load(&mut progress)?;
                let all = models.0.clone();
                loading.replace(models);
                ready(&all);
                if loading.keeper.set(Arc::clone(&keeps)).is_ok() && !watch.is_zero() {
                    let watches = std::thread::Builder::new().name("jishi-watch".into());
                    watches.spawn(move || keeps.watch(watch))?;
                }
                Ok(())
            });
            let mut load = Some(load);
            let places = Arc::new(Semaphore::new(limits.connections));
            let connections = GracefulShutdown::new();
            let app = router(Arc::clone(&shared), pages);
            let signal = told_to_end();
            tokio::pin!(signal);
            let mut again = told_to_reload();
            loop {
                let accepted = tokio::select! {
                    accepted = accept(&listener, &places) => accepted,
                    ended = async { load.as_mut().expect("asked once").await }, if load.is_some() => {
                        load = None;
                        ended.map_err(io::Error::other)??;
                        continue;
                    }
                    () = &mut signal => break,
                    () = again.told() => {
                        if shared.ready.load(Ordering::SeqCst) {
                            let keeper = Arc::clone(&keeper);
                            drop(tokio::task::spawn_blocking(move || keeper.reload_all(true)));
                        }
                        continue;
                    }
                    _ = end.wait_for(|end| *end) => break,
                };
                let Some((socket, peer, place)) = accepted else { continue };
                let _ = socket.set_nodelay(true);
                let service = TowerToHyperService::new(app.clone());
                let service = service_fn(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(Peer(peer));
                    service.call(request)
                });
                let (watcher, books) = (connections.watcher(), Arc::clone(&books));
                let (tls, arrival) = (tls.clone(), limits.arrival);
                tokio::spawn(async move {
                    books.metrics.connections.fetch_add(1, Ordering::Relaxed);
                    // A client that leaves or speaks no HTTP is not an error of ours.
                    match tls {
                        None => speak(socket, service, arrival, watcher).await,
                        Some(tls) => {
                            if let Ok(Ok(socket)) = timeout(arrival, tls.accept(socket)).await {
                                speak(socket, service, arrival, watcher).await;
                            }
                        }
                    }
                    books.metrics.connections.fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                });
            }
            shared.ending.store(true, Ordering::SeqCst);
            drop(listener);
            // Who has not got an answer by then gets none.
            let _ = timeout(limits.drain, connections.shutdown()).await;
            Ok::<(), ServeError>(())
        });
        // A model that is still being loaded is not waited for.
        runtime.shutdown_background();
        result
    }
}

/// Answers on a connection until it ends.
async fn speak<C, S>(socket: C, service: S, arrival: Duration, watcher: Watcher)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(arrival)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(socket), service);
    let _ = watcher.watch(connection).await;
}

/// A connection, once there is a place for one.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(tokio::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((socket, peer)) => Some((socket, peer, place)),
        Err(_) => {
            // Too many files, most likely: there will be fewer in a moment.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            None
        }
    }
}

#[cfg(unix)]
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

#[cfg(not(unix))]
async fn told_to_end() {
    let _ = tokio::signal::ctrl_c().await;
}

/// SIGHUP, after which packages and keys are looked at.
struct Reload {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

fn told_to_reload() -> Reload {
    Reload {
        #[cfg(unix)]
        signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
    }
}

impl Reload {
    async fn told(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

fn open_to_all(address: SocketAddr) -> ServeError {
    let problem = Problem::new(format!("others can reach {address}, and nobody would be asked for a key"));
    let help = "make one with `jishi keys add NAME` and serve with `--keys keys.toml`; or say `--no-keys`, \
                where everybody who reaches it may ask";
    ServeError::Bad(problem.help(help).into())
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> ServeError {
    let next = SocketAddr::new(address.ip(), address.port().wrapping_add(1).max(1024));
    let problem = match error.kind() {
        io::ErrorKind::AddrInUse => Problem::new(format!("another program listens at {address}"))
            .help(format!("end it, or listen elsewhere: `--listen {next}`")),
        io::ErrorKind::AddrNotAvailable => Problem::new(format!("{address} is no address of this machine"))
            .help("`--listen 127.0.0.1:8000` is for this machine alone, `--listen 0.0.0.0:8000` for all"),
        io::ErrorKind::PermissionDenied => Problem::new(format!("this user may not listen at {address}"))
            .help("ports below 1024 are the administrator's: take one above"),
        _ => Problem::new(format!("can't listen at {address}: {error}")),
    };
    ServeError::Bad(problem.into())
}
