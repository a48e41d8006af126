//! The threads that serve users: one for each processor, each with a runtime and connections to Mattermost of its own, so that a request wakes
//! no other processor. Says which of them serves a connection; knows nothing of requests.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::proxy::Proxy;

/// They end, with whatever they still do, when this is dropped.
pub struct Workers(Vec<Worker>);

struct Worker {
    runtime: Handle,
    proxy: Arc<Proxy>,
    open: Open,
    _end: oneshot::Sender<()>,
}

/// Connections that a worker serves.
#[derive(Clone, Default)]
struct Open(Arc<AtomicUsize>);

struct Counted(Open);

impl Open {
    fn one_more(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    pub fn start(proxy: &Proxy) -> std::io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, NonZero::get);
        let workers = (0..count).map(|_| Worker::start(Arc::new(proxy.twin())));
        workers.collect::<std::io::Result<_>>().map(Self)
    }

    /// Serves a connection on the worker that has the fewest. An error is that of a connection that cannot be watched.
    pub fn serve<F>(
        &self,
        stream: TcpStream,
        serve: impl FnOnce(TcpStream, Arc<Proxy>) -> F + Send + 'static,
    ) -> std::io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stream = stream.into_std()?;
        let fewest = |worker: &&Worker| worker.open.0.load(Ordering::Relaxed);
        if let Some(worker) = self.0.iter().min_by_key(fewest) {
            let (proxy, counted) = (Arc::clone(&worker.proxy), worker.open.one_more());
            worker.runtime.spawn(async move {
                let _counted = counted;
                // Fails only without memory or descriptors; the client then sees its connection closed.
                if let Ok(stream) = TcpStream::from_std(stream) {
                    serve(stream, proxy).await;
                }
            });
        }
        Ok(())
    }

    /// Resolves once each of them has got round to it.
    pub async fn answer(&self) {
        for worker in &self.0 {
            worker.runtime.spawn(async {}).await.ok();
        }
    }
}

impl Worker {
    fn start(proxy: Arc<Proxy>) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        handle.spawn(Arc::clone(&proxy).tend());
        let (end, ended) = oneshot::channel::<()>();
        let run = move || {
            runtime.block_on(ended).ok();
            runtime.shutdown_background();
        };
        std::thread::Builder::new()
            .name("serve".to_owned())
            .spawn(run)?;
        Ok(Self {
            runtime: handle,
            proxy,
            open: Open::default(),
            _end: end,
        })
    }
}
