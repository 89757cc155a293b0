//! From a socket to answers: connections, their bounds, and the end.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use burn::tensor::Device;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use jishi_kernels::cpu::matvec::Format;
use jishi_recipe::Problem;
use jishi_train::TrainError;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::app::{Peer, Shared, router};
use crate::limits::Limits;
use crate::model::{Model, ModelSource, Models};

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
    shared: Arc<Shared>,
    options: Options,
}

impl Server {
    /// Takes the address. Nobody is answered before [`Server::run`].
    ///
    /// # Errors
    /// An address that is taken, or not one of this machine.
    pub fn bind(options: Options) -> Result<Self, ServeError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(2 * threads + 2)
            .thread_name("jishi-http")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind(options.listen));
        let listener = listener.map_err(|error| cannot_listen(options.listen, &error))?;
        let shared = Arc::new(Shared::new(Arc::new(options.limits.clone())));
        Ok(Self { runtime, listener, shared, options })
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
        let Self { runtime, listener, shared, options } = self;
        let (device, limits) = (device.clone(), Arc::clone(&shared.limits));
        let (loading, options) = (Arc::clone(&shared), options);
        let result = runtime.block_on(async move {
            let load = tokio::task::spawn_blocking(move || -> Result<(), TrainError> {
                let Options { models, root, format, .. } = &options;
                let mut loaded = Vec::new();
                for source in models {
                    let limits = &loading.limits;
                    loaded.push(Arc::new(Model::load(
                        source,
                        root,
                        *format,
                        &device,
                        limits,
                        &mut progress,
                    )?));
                }
                let models = loaded.clone();
                loading.replace(Models(loaded));
                ready(&models);
                Ok(())
            });
            let mut load = Some(load);
            let places = Arc::new(Semaphore::new(limits.connections));
            let connections = GracefulShutdown::new();
            let app = router(Arc::clone(&shared));
            let signal = told_to_end();
            tokio::pin!(signal);
            loop {
                let accepted = tokio::select! {
                    accepted = accept(&listener, &places) => accepted,
                    ended = async { load.as_mut().expect("asked once").await }, if load.is_some() => {
                        load = None;
                        ended.map_err(io::Error::other)??;
                        continue;
                    }
                    () = &mut signal => break,
                    _ = end.wait_for(|end| *end) => break,
                };
                let Some((socket, peer, place)) = accepted else { continue };
                let _ = socket.set_nodelay(true);
                let service = TowerToHyperService::new(app.clone());
                let service = service_fn(move |mut request: Request<Incoming>| {
                    request.extensions_mut().insert(Peer(peer));
                    service.call(request)
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(limits.arrival)
                    .max_buf_size(HEAD)
                    .serve_connection(TokioIo::new(socket), service);
                let connection = connections.watch(connection);
                tokio::spawn(async move {
                    // A client that leaves or speaks no HTTP is not an error of ours.
                    let _ = connection.await;
                    drop(place);
                });
            }
            shared.ending.store(true, Ordering::SeqCst);
            drop(listener);
            // Who has not got an answer by then gets none.
            let _ = tokio::time::timeout(limits.drain, connections.shutdown()).await;
            Ok::<(), ServeError>(())
        });
        // A model that is still being loaded is not waited for.
        runtime.shutdown_background();
        result
    }
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
