//! A SIMULATOR of Ollama: the double's answers with a server's time. For measuring a client, and for fault campaigns.
//!
//! Constraints: what is on the wire is the double's, and held to the real server by the same suite; durations are real
//! nanoseconds, the wait in the queue being in `total_duration` alone; a page has one answer, made once, of mentions
//! that are on it; at zero service time nothing but HTTP is done, so that the client is what is measured.
//!
//! ```text
//! request ─► prepared (by its bytes; else the double's reading) ─► fault? ─► gate (queue, slots) ─► NDJSON
//!                                                                     └─────────── stats ───────────┘
//! ```

pub mod audit;
mod gate;
mod generate;
mod plan;
pub mod sheets;
mod slots;
mod speak;
mod stats;

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    future::Future,
    io::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt as _,
};
use tokio::net::TcpListener;

use crate::ollama_double::{self, App, Next, Reply, chat::Request};
use gate::Gate;
pub use plan::{ALWAYS, Fault, Plan};
use slots::Slots;
pub use slots::{Change, When};
pub use stats::{Asked, Moment, Sample, Stats};

/// Requests whose answers are kept ready: many times what a measurement sends.
const PREPARED: usize = 100_000;

/// Bodies that are kept.
const KEPT: usize = 4000;

/// What the handlers share.
pub struct Sim {
    app: App,
    plan: Plan,
    gate: Arc<Gate>,
    stats: Mutex<Stats>,
    prepared: Mutex<HashMap<u64, Arc<Prepared>>>,
    pages: Mutex<BTreeMap<u64, Arc<Page>>>,
    /// Of `generate`, by body.
    generated: Mutex<HashMap<u64, String>>,
    kept: Option<Mutex<File>>,
    /// Requests that needed time, for their draws.
    worked: AtomicU64,
}

/// A request whose answer is known, whenever it comes.
struct Prepared {
    reply: Reply,
    page: Arc<Page>,
    /// The first line, and the others but the last.
    first: Bytes,
    rest: Bytes,
}

/// A piece of page.
struct Page {
    digest: u64,
    always: Option<Fault>,
    /// Empty where no faults are planned.
    text: String,
    requests: AtomicU32,
    faults: Mutex<Vec<Option<Fault>>>,
}

impl Sim {
    /// Spawns its clock: to be called within a runtime.
    ///
    /// # Errors
    /// When the file for bodies cannot be made.
    pub fn new(app: App, plan: Plan) -> std::io::Result<Arc<Self>> {
        let kept = plan.keep_bodies.as_ref().map(File::create).transpose()?;
        let gate = Gate::new(Slots::new(plan.slots, plan.changes.clone(), plan.slowdown));
        tokio::spawn(gate.clone().run());
        // What happens for the first time only is no part of a service time.
        if let Some(text) = sheets::slip(0).text {
            app.answerer.answer(&text, usize::MAX);
        }
        Ok(Arc::new(Self {
            kept: kept.map(Mutex::new),
            app,
            plan,
            gate,
            stats: Mutex::default(),
            prepared: Mutex::default(),
            generated: Mutex::default(),
            pages: Mutex::default(),
            worked: AtomicU64::new(0),
        }))
    }

    /// Err: what is to be said instead.
    async fn prepare(&self, body: &Bytes) -> Result<Arc<Prepared>, Box<Response>> {
        let digest = plan::digest(body);
        if let Some(prepared) = lock(&self.prepared).get(&digest) {
            return Ok(prepared.clone());
        }
        let request = Request::parse(body)?;
        let page = self.page(request.page());
        let reply = Reply::to(&self.app, request, Next::Answer).await?;
        let (first, rest) = speak::lines(&reply, &reply.content, self.plan.delta);
        let prepared = Arc::new(Prepared { reply, page, first, rest });
        let mut all = lock(&self.prepared);
        if let Some(kept) = self.kept.as_ref().filter(|_| all.len() < KEPT && !body.contains(&b'\n')) {
            // A file that is full shows in what it lacks.
            let _ = lock(kept).write_all(&[body.as_ref(), b"\n"].concat());
        }
        if all.len() < PREPARED {
            all.insert(digest, prepared.clone());
        }
        Ok(prepared)
    }

    fn page(&self, text: &str) -> Arc<Page> {
        let digest = plan::digest(text.as_bytes());
        let always = Plan::always(text);
        let kept = self.plan.fault_share > 0.0 || always.is_some();
        let page = lock(&self.pages).entry(digest).or_default().clone();
        if page.digest == digest {
            return page;
        }
        let text = if kept { text.to_owned() } else { String::new() };
        let page = Arc::new(Page { digest, always, text, ..Page::default() });
        lock(&self.pages).insert(digest, page.clone());
        page
    }

    /// What happens to this request: what the double's flags plan, what its page asks for, or what is drawn.
    fn fault(&self, page: &Page) -> Result<Option<Fault>, Next> {
        let planned = self.app.faults.next();
        if planned != Next::Answer {
            return Err(planned);
        }
        let nth = page.requests.fetch_add(1, Ordering::Relaxed);
        let fault = page.always.or_else(|| self.plan.fault(page.digest, nth));
        if !page.text.is_empty() {
            lock(&page.faults).push(fault);
        }
        if let Some(fault) = fault {
            *lock(&self.stats).faults.entry(fault).or_default() += 1;
        }
        Ok(fault)
    }

    fn moment(&self, counts: Moment) -> Moment {
        let (_, busy, offered) = self.gate.times();
        let short = |time: u128| u64::try_from(time).unwrap_or(u64::MAX);
        Moment { at_ns: self.gate.now(), busy_ns: short(busy), offered_ns: short(offered), ..counts }
    }
}

impl Default for Page {
    fn default() -> Self {
        Self {
            digest: 0,
            always: None,
            text: String::new(),
            requests: AtomicU32::new(0),
            faults: Mutex::default(),
        }
    }
}

/// A request that is there. Dropped before it is answered, its caller has gone.
struct Visit {
    sim: Arc<Sim>,
    answered: Option<u64>,
}

impl Visit {
    fn begin(sim: &Arc<Sim>) -> Self {
        let mut stats = lock(&sim.stats);
        stats.request();
        if stats.first_request.is_none() {
            stats.first_request = Some(sim.moment(stats.now));
        }
        drop(stats);
        Self { sim: sim.clone(), answered: None }
    }

    /// With tokens that count.
    fn answered(mut self, tokens: usize) {
        self.answered = Some(tokens as u64);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let sim = &self.sim;
        let (slots, ..) = sim.gate.times();
        let mut stats = lock(&sim.stats);
        match self.answered {
            Some(tokens) => {
                stats.answer(sim.gate.now(), slots, tokens);
                stats.last_answer = Some(sim.moment(stats.now));
            }
            None => stats.disconnect(sim.gate.now()),
        }
    }
}

pub fn router(sim: &Arc<Sim>) -> Router {
    let own = Router::new()
        .route("/sim/stats", get(tell))
        .route("/sim/mark/{name}", post(mark))
        .with_state(sim.clone());
    let chat = Router::new().route("/api/chat", post(chat));
    let chat = chat.route("/api/generate", post(generate::generate)).with_state(sim.clone());
    ollama_double::around(&sim.app, ollama_double::router_without_chat(sim.app.clone()).merge(chat))
        .merge(own)
}

/// Serves until `shutdown` completes.
pub async fn serve(
    listener: TcpListener,
    sim: Arc<Sim>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = listener.tap_io(|stream| {
        // It only delays what is small.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router(&sim)).with_graceful_shutdown(shutdown).await
}

async fn chat(State(sim): State<Arc<Sim>>, body: Bytes) -> Response {
    let visit = Visit::begin(&sim);
    let prepared = match sim.prepare(&body).await {
        Ok(prepared) => prepared,
        Err(refusal) => {
            visit.answered(0);
            return *refusal;
        }
    };
    speak::speak(visit, prepared).await
}

/// `?samples` and `?pages` make it long.
async fn tell(State(sim): State<Arc<Sim>>, RawQuery(query): RawQuery) -> Json<Stats> {
    let asked = |name: &str| query.as_deref().is_some_and(|query| query.split('&').any(|part| part == name));
    let mut stats = lock(&sim.stats).clone();
    stats.now = sim.moment(stats.now);
    if !asked("samples") {
        stats.samples.clear();
    }
    if asked("pages") {
        let pages = lock(&sim.pages);
        let asked = |page: &Arc<Page>| Asked { text: page.text.clone(), faults: lock(&page.faults).clone() };
        stats.pages = pages.values().map(asked).collect();
    }
    Json(stats)
}

async fn mark(State(sim): State<Arc<Sim>>, Path(name): Path<String>) -> Response {
    let mut stats = lock(&sim.stats);
    let moment = sim.moment(stats.now);
    stats.marks.insert(name, moment);
    (StatusCode::OK, Json(moment)).into_response()
}

/// What was being written when somebody panicked is still whole enough for a double.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
