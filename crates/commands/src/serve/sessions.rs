//! The services that clients use: one for all, or one for each WebSocket, made ready in advance.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use remotemedia_runtime::Metrics;
use remotemedia_runtime::locks::{Condvar, Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::failure::Failure;
use crate::serve::requests::reply::Problem;
use crate::service::{Service, ServiceMaker};
use crate::terminal;

/// How long the nodes of one client may take to be cleaned up.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The services of all clients.
pub(crate) struct Sessions {
    /// For calls and streams, and for WebSockets without nodes of their own.
    shared: Arc<dyn Service>,
    own: Option<Arc<OwnSessions>>,
    room: Arc<Semaphore>,
    max: usize,
    last_id: AtomicU64,
}

/// One client's use of a service.
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) service: Arc<dyn Service>,
    own: Option<Arc<OwnSessions>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Sessions {
    pub(crate) fn new(shared: Arc<dyn Service>, max: usize) -> Self {
        Self { shared, own: None, room: Arc::new(Semaphore::new(max)), max, last_id: AtomicU64::new(0) }
    }

    /// Give each WebSocket nodes of its own, and keep those of `warm` ready. Waits until they are.
    pub(crate) fn with_own_nodes(
        mut self,
        maker: Arc<dyn ServiceMaker>,
        warm: usize,
        check_signals: impl Fn() -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let own = OwnSessions::start(maker, warm, self.max)?;
        own.wait_until_warm(&check_signals)?;
        self.own = Some(own);
        Ok(self)
    }

    pub(crate) fn shared(&self) -> &dyn Service {
        &*self.shared
    }

    /// Whether no more WebSockets are accepted.
    pub(crate) fn is_full(&self) -> bool {
        self.room.available_permits() == 0
    }

    /// Places that are in use, places in all, and nodes that are ready for a client.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let warm = self.own.as_ref().map_or(0, |own| own.ready_count.load(Ordering::Relaxed));
        (self.max - self.room.available_permits(), self.max, warm)
    }

    pub(crate) fn have_own_nodes(&self) -> bool {
        self.own.is_some()
    }

    /// Take a place for a client.
    pub(crate) fn reserve(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.room).try_acquire_owned();
        permit.map_err(|_| Problem::busy("as many sessions are open as may be"))
    }

    /// Begin a session in a reserved place.
    pub(crate) async fn begin(&self, permit: OwnedSemaphorePermit) -> Result<Session, Failure> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (service, own) = match &self.own {
            None => (Arc::clone(&self.shared), None),
            Some(own) => (own.take(id).await?, Some(Arc::clone(own))),
        };
        Ok(Session { id, service, own, permit: Some(permit) })
    }

    /// Wait until no client has a place.
    pub(crate) async fn all_gone(&self) {
        let all = u32::try_from(self.max).unwrap_or(u32::MAX);
        // It is never closed.
        drop(self.room.acquire_many(all).await);
    }

    /// What the nodes of all sessions did so far. May wait.
    pub(crate) fn metrics(&self) -> Option<Metrics> {
        let mut sum = self.shared.metrics()?;
        if let Some(own) = &self.own {
            let services: Vec<_> = own.open().values().cloned().collect();
            let closed = own.closed_metrics.lock().clone();
            services.iter().filter_map(|service| service.metrics()).chain(closed).for_each(|other| sum.add(&other));
        }
        Some(sum)
    }

    /// The queues of all sessions, added up.
    pub(crate) fn queues(&self) -> Vec<(usize, usize, usize)> {
        let mut sum = self.shared.queues();
        let services: Vec<_> =
            self.own.iter().flat_map(|own| own.open().values().cloned().collect::<Vec<_>>()).collect();
        for service in services {
            for (here, there) in sum.iter_mut().zip(service.queues()) {
                here.1 += there.1;
                here.2 = here.2.saturating_add(there.2);
            }
        }
        sum
    }

    /// Clean all nodes up. Waits, for about as long as this at most.
    pub(crate) fn close(&self, timeout: Duration) -> Result<(), Failure> {
        let own = self.own.as_ref().map_or(Ok(()), |own| own.close(timeout));
        self.shared.close(timeout).and(own)
    }
}

/// A client has gone: nodes of its own are cleaned up on a thread, since that may take its time.
impl Drop for Session {
    fn drop(&mut self) {
        if let Some(own) = &self.own {
            own.give_back(self.id, self.permit.take());
        }
    }
}

/// Services with nodes for one client each.
struct OwnSessions {
    orders: Mutex<Option<SyncSender<Order>>>,
    maker: Mutex<Option<JoinHandle<()>>>,
    open: Mutex<HashMap<u64, Arc<dyn Service>>>,
    warm: usize,
    ready_count: AtomicUsize,
    /// Why nodes could not be made in advance.
    failure: Mutex<Option<Failure>>,
    changed: Condvar,
    closed_metrics: Mutex<Option<Metrics>>,
}

struct Order {
    id: u64,
    reply: oneshot::Sender<Result<Arc<dyn Service>, Failure>>,
}

impl OwnSessions {
    fn start(maker: Arc<dyn ServiceMaker>, warm: usize, max: usize) -> Result<Arc<Self>, Failure> {
        // Every order holds a place, so that there is room for all of them.
        let (sender, orders) = sync_channel(max);
        let own = Arc::new(Self {
            orders: Mutex::new(Some(sender)),
            maker: Mutex::default(),
            open: Mutex::default(),
            warm,
            ready_count: AtomicUsize::new(0),
            failure: Mutex::default(),
            changed: Condvar::new(),
            closed_metrics: Mutex::default(),
        });
        let here = Arc::clone(&own);
        let thread = std::thread::Builder::new()
            .name("remotemedia-sessions".to_owned())
            .spawn(move || here.make_all(&*maker, &orders))
            .map_err(|error| Failure::failed(format!("cannot start a thread: {}", terminal::reason(&error))))?;
        *own.maker.lock() = Some(thread);
        Ok(own)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<dyn Service>>> {
        self.open.lock()
    }

    fn wait_until_warm(&self, check_signals: &dyn Fn() -> Result<(), Failure>) -> Result<(), Failure> {
        let mut failure = self.failure.lock();
        while self.ready_count.load(Ordering::Relaxed) < self.warm {
            if let Some(failure) = failure.take() {
                return Err(failure);
            }
            self.changed.wait_for(&mut failure, Duration::from_millis(50));
            check_signals()?;
        }
        Ok(())
    }

    /// The life of the thread that makes nodes: for those that wait, and then in advance.
    fn make_all(self: &Arc<Self>, maker: &dyn ServiceMaker, orders: &Receiver<Order>) {
        let mut ready: Vec<Arc<dyn Service>> = Vec::new();
        let mut may_warm = true;
        loop {
            let order = match orders.try_recv() {
                Err(TryRecvError::Empty) if may_warm && ready.len() < self.warm => {
                    match maker.make() {
                        Ok(service) => ready.push(service),
                        Err(failure) => {
                            // Tried again after the next client, who learns of it.
                            may_warm = false;
                            *self.failure.lock() = Some(failure);
                        }
                    }
                    self.ready_count.store(ready.len(), Ordering::Relaxed);
                    self.changed.notify_all();
                    continue;
                }
                Err(TryRecvError::Empty) => {
                    let Ok(order) = orders.recv() else { break };
                    order
                }
                Err(TryRecvError::Disconnected) => break,
                Ok(order) => order,
            };
            let made = ready.pop().map_or_else(|| maker.make(), Ok);
            may_warm = made.is_ok();
            self.ready_count.store(ready.len(), Ordering::Relaxed);
            if let Ok(service) = &made {
                self.open().insert(order.id, Arc::clone(service));
            }
            if order.reply.send(made).is_err() {
                self.give_back(order.id, None);
            }
        }
        for service in ready {
            report(service.close(CLOSE_TIMEOUT));
        }
    }

    async fn take(&self, id: u64) -> Result<Arc<dyn Service>, Failure> {
        let closing = || Failure::failed("the service is closing");
        let (reply, made) = oneshot::channel();
        {
            let orders = self.orders.lock();
            orders.as_ref().ok_or_else(closing)?.try_send(Order { id, reply }).map_err(|_| closing())?;
        }
        made.await.unwrap_or_else(|_| Err(closing()))
    }

    /// Clean up the nodes of a client; its place is free after that.
    fn give_back(self: &Arc<Self>, id: u64, permit: Option<OwnedSemaphorePermit>) {
        let here = Arc::clone(self);
        let clean_up = move || {
            here.end(id);
            drop(permit);
        };
        // Without a thread it is done at the end of the service.
        drop(std::thread::Builder::new().name("remotemedia-cleanup".to_owned()).spawn(clean_up));
    }

    fn end(&self, id: u64) {
        let Some(service) = self.open().get(&id).cloned() else { return };
        report(service.close(CLOSE_TIMEOUT));
        if let Some(metrics) = service.metrics() {
            let mut closed = self.closed_metrics.lock();
            match &mut *closed {
                Some(sum) => sum.add(&metrics),
                None => *closed = Some(metrics),
            }
        }
        self.open().remove(&id);
        self.changed.notify_all();
    }

    fn close(self: &Arc<Self>, timeout: Duration) -> Result<(), Failure> {
        drop(self.orders.lock().take());
        let deadline = Instant::now() + timeout;
        // Those whose client has gone are being cleaned up already.
        while !self.open().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let left: Vec<_> = self.open().drain().map(|(_, service)| service).collect();
        let outcomes: Vec<_> = left.iter().map(|service| service.close(Duration::ZERO)).collect();
        if let Some(maker) = self.maker.lock().take()
            && !timeout.is_zero()
        {
            maker.join().ok();
        }
        outcomes.into_iter().collect()
    }
}

/// Nobody waits for the nodes of a client that has gone: that they failed to be cleaned up is written to stderr.
fn report(outcome: Result<(), Failure>) {
    if let Err(failure) = outcome {
        terminal::note(&failure.message);
    }
}
