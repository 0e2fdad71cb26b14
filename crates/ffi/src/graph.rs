//! A resolved `Graph` of the Python package as a plan, and its objects as nodes.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use remotemedia_runtime::{
    CancelFlag, DeadLetter, ErrorBudget, Node, NodeFailure, NodeLock, NodeSpec, Options, Phase, Placement, Plan,
    Policy, PolicyNode, Replicas, Stage,
};

use crate::asyncio::bridge::Bridge;
use crate::attach::attach;
use crate::convert::failure;
use crate::convert::manifest::ManifestOrder;
use crate::convert::object::Object;
use crate::convert::options::json_options;
use crate::node::callers::{Level, Owner, Place};
use crate::node::lock::{LockedObject, NoLocks, ObjectLocks};
use crate::node::outputs;
use crate::node::python_node::PythonNode;
use crate::node::site::Site;
use crate::worker::{self, Placed};

/// Where a chain is that runs in bulk: at one of its nodes.
pub(crate) fn place_of_chain(plan: &Plan, owner: &Arc<Owner>) -> Arc<Place> {
    let only = if let [node] = plan.nodes() { Some(node.id.as_str()) } else { None };
    Place::new(owner, only)
}

/// The nodes of a plan, in its order.
pub(crate) struct Described(Vec<DescribedNode>);

#[derive(Default)]
struct DescribedNode {
    replicas: Vec<Box<dyn Node<Object>>>,
    objects: Vec<Py<PyAny>>,
    /// The object to lock for each replica; `None` if several threads may be in it.
    locked_objects: Vec<Option<LockedObject>>,
    /// Whether calling the object is all there is to it.
    is_plain: bool,
}

/// The plan of a resolved `Graph`.
pub fn plan_of(graph: &Bound<'_, PyAny>) -> PyResult<Plan> {
    let py = graph.py();
    let name: String = graph.getattr("name")?.extract()?;
    let order: Option<Py<ManifestOrder>> = graph.getattr("order")?.extract()?;
    let entries = graph.getattr("entries")?.cast_into::<PyList>()?;
    let mut specs: Vec<NodeSpec> = Vec::with_capacity(entries.len());
    for entry in entries {
        let after = if order.is_some() { Vec::new() } else { entry.getattr(intern!(py, "after"))?.extract()? };
        specs.push(NodeSpec {
            id: entry.getattr(intern!(py, "id"))?.extract()?,
            node_type: entry.getattr(intern!(py, "node_type"))?.extract()?,
            after,
            join: entry.getattr(intern!(py, "join"))?.extract()?,
            options: options_of(&entry)?,
        });
    }
    if let Some(order) = order {
        return Plan::arranged(name, specs, &order.get().0).map_err(|error| failure::refused(&error));
    }
    Plan::of(name, specs).map_err(|error| failure::refused(&error))
}

/// What the nodes of a run have in common.
pub(crate) struct Surroundings<'a> {
    pub(crate) owner: &'a Arc<Owner>,
    pub(crate) bridge: &'a Arc<Bridge>,
    pub(crate) stop: &'a CancelFlag,
    pub(crate) with_metrics: bool,
    /// How many items may fail without ending the run, if there is a limit.
    pub(crate) budget: Option<&'a Arc<ErrorBudget<Object>>>,
}

/// A node for each of the objects of a graph. Those for workers are pickled, which may take a while.
pub(crate) fn describe(graph: &Bound<'_, PyAny>, plan: &Plan, surroundings: &Surroundings<'_>) -> PyResult<Described> {
    let entries = graph.getattr("entries")?;
    let mut nodes = Vec::with_capacity(plan.nodes().len());
    for node in plan.nodes() {
        let entry = entries.get_item(node.position)?;
        nodes.push(if node.options.placement == Placement::Process {
            // Filled below, together with those that share its worker.
            DescribedNode::default()
        } else {
            describe_node(&entry, &node.id, &node.options, surroundings)?
        });
    }
    for stage in plan.stages().iter().filter(|stage| stage.placement == Placement::Process) {
        describe_workers(plan, stage, &entries, &mut nodes, surroundings)?;
    }
    Ok(Described(nodes))
}

fn describe_node(
    entry: &Bound<'_, PyAny>,
    node_id: &str,
    options: &Options,
    surroundings: &Surroundings<'_>,
) -> PyResult<DescribedNode> {
    // Options of the usual kind have nothing more to say, and a call of one node must not pay for asking.
    let written = entry.getattr("options")?.cast_into::<PyDict>()?;
    let place = Place::new(surroundings.owner, Some(node_id));
    let guard = Guard::of(&written, &place, options, surroundings)?;
    let object = entry.getattr("node")?;
    let is_factory = is_factory(&object, options)?;
    let is_shared = options.replicas > 1 && !is_factory;
    let is_first = entry.getattr("after")?.is_empty()?;
    let mut described = DescribedNode { is_plain: guard.is_none(), ..DescribedNode::default() };
    let site = Arc::new(Site { place, bridge: Arc::clone(surroundings.bridge) });
    for replica in 0..options.replicas {
        let object = if is_factory { object.call0()? } else { object.clone() };
        let mut node = PythonNode::new(&object, options, Arc::clone(&site))?;
        if is_first {
            node.find_source(entry.py())?;
        }
        described.locked_objects.push((!is_shared).then(|| node.membership.locked_object()));
        described.objects.push(object.unbind());
        let node: Box<dyn Node<Object>> = Box::new(if is_shared && replica > 0 { node.told_by_other() } else { node });
        described.replicas.push(Guard::put_around(guard.as_ref(), entry.py(), node));
    }
    Ok(described)
}

/// The nodes of a stage that runs in workers.
fn describe_workers(
    plan: &Plan,
    stage: &Stage,
    entries: &Bound<'_, PyAny>,
    nodes: &mut [DescribedNode],
    surroundings: &Surroundings<'_>,
) -> PyResult<()> {
    let py = entries.py();
    let mut placed = Vec::with_capacity(stage.nodes.len());
    let mut guards = Vec::with_capacity(stage.nodes.len());
    for &index in &stage.nodes {
        let node = &plan.nodes()[index];
        let entry = entries.get_item(node.position)?;
        let written = entry.getattr("options")?.cast_into::<PyDict>()?;
        // The worker tries again by itself.
        let options = Options { retries: 0, ..Options::clone(&node.options) };
        let place = Place::new(surroundings.owner, Some(&node.id));
        guards.push(Guard::of(&written, &place, &options, surroundings)?);
        let object = entry.getattr("node")?;
        placed.push(Placed {
            is_factory: is_factory(&object, &options)?,
            object,
            id: node.id.clone(),
            node_type: node.node_type.clone(),
            written: json_options(&written)?,
        });
    }
    let asked = (surroundings.with_metrics, passes_on(plan, stage, entries)?);
    for replica in worker::remote_nodes_for(py, &stage.options, &placed, asked, surroundings.stop)? {
        for ((node, guard), &index) in replica.into_iter().zip(&guards).zip(&stage.nodes) {
            nodes[index].replicas.push(Guard::put_around(guard.as_ref(), py, node));
            nodes[index].locked_objects.push(None);
        }
    }
    Ok(())
}

/// Whether nothing but workers receives the outputs of a stage. What handles failures receives the items that failed.
fn passes_on(plan: &Plan, stage: &Stage, entries: &Bound<'_, PyAny>) -> PyResult<bool> {
    let next = stage.nodes.last().map_or(0, |last| last + 1);
    if !plan.is_chain() || next >= plan.nodes().len() {
        return Ok(false);
    }
    let next = &plan.stages()[plan.stage_of(next)];
    for &index in &next.nodes {
        let node = &plan.nodes()[index];
        let written = entries.get_item(node.position)?.getattr("options")?.cast_into::<PyDict>()?;
        if node.options.has_policy() || callable_of(&written)?.is_some() {
            return Ok(false);
        }
    }
    Ok(next.workers() > 0)
}

/// Whether an object is not the node but makes it, for each replica anew.
fn is_factory(object: &Bound<'_, PyAny>, options: &Options) -> PyResult<bool> {
    Ok(options.replicas > 1 && !object.hasattr("process")? || object.is_instance_of::<pyo3::types::PyType>())
}

/// What is done about failures of a node, if anything is.
struct Guard<'a> {
    place: Arc<Place>,
    options: Options,
    dead_letter: Option<Py<PyAny>>,
    surroundings: &'a Surroundings<'a>,
}

impl<'a> Guard<'a> {
    fn of(
        written: &Bound<'_, PyDict>,
        place: &Arc<Place>,
        options: &Options,
        surroundings: &'a Surroundings<'a>,
    ) -> PyResult<Option<Self>> {
        let dead_letter =
            if written.is_empty() { None } else { callable_of(written)?.map(|(_, callable)| callable.unbind()) };
        let is_guarded = options.has_policy() || dead_letter.is_some();
        Ok(is_guarded.then(|| Self { place: Arc::clone(place), options: options.clone(), dead_letter, surroundings }))
    }

    fn put_around(guard: Option<&Self>, py: Python<'_>, node: Box<dyn Node<Object>>) -> Box<dyn Node<Object>> {
        let Some(Self { place, options, dead_letter, surroundings }) = guard else { return node };
        let Surroundings { bridge, stop, budget, .. } = surroundings;
        let site = Arc::new(Site { place: Arc::clone(place), bridge: Arc::clone(bridge) });
        let dead_letter = dead_letter.as_ref().map(|callable| dead_letter_of(callable.clone_ref(py), site));
        let mut policy = Policy::new(options, dead_letter, (*stop).clone());
        if let Some(budget) = budget {
            policy = policy.within(Arc::clone(budget), place.node_id.as_deref().unwrap_or_default());
        }
        Box::new(PolicyNode::new(node, policy))
    }
}

/// The callable that gets failed items, and the option by which it was given.
fn callable_of<'py>(written: &Bound<'py, PyDict>) -> PyResult<Option<(&'static str, Bound<'py, PyAny>)>> {
    for option in ["dead_letter", "on_error"] {
        if let Some(callable) = written.get_item(option)?.filter(Bound::is_callable) {
            return Ok(Some((option, callable)));
        }
    }
    Ok(None)
}

/// Hands an item that failed, and its error, to a callable of the user's.
fn dead_letter_of(callable: Py<PyAny>, site: Arc<Site>) -> DeadLetter<Object> {
    Arc::new(move |item, item_index, fault| {
        // The thread that delivers the results of a worker is not in a node.
        let _inside = Level::node(&site.place).enter();
        attach(|py| {
            let failure = NodeFailure {
                node_id: site.place.node_id.clone().unwrap_or_default(),
                item_index,
                phase: Phase::Process,
                fault,
            };
            let error = failure::node_error(py, failure);
            outputs::handed_over(callable.bind(py).call1((item.0, error.into_value(py)))?, &site)
        })
    })
}

/// The options of an entry. They have been checked; of a callable, which only Python knows, there is the name.
fn options_of(entry: &Bound<'_, PyAny>) -> PyResult<Arc<Options>> {
    let written = entry.getattr(intern!(entry.py(), "options"))?.cast_into::<PyDict>()?;
    if written.is_empty() {
        return Ok(Options::shared_default());
    }
    let mut options = Options::from_json(&json_options(&written)?)
        .map_err(|problem| failure::PipelineError::new_err(problem.to_string()))?;
    options.is_placement_inherited = entry.getattr(intern!(entry.py(), "inherits_placement"))?.extract()?;
    if let Some((option, callable)) = callable_of(&written)? {
        let names = entry.py().import("remotemedia._graph.options")?;
        options.handler = Some((option, names.call_method1("name_of", (callable,))?.extract()?));
    }
    Ok(Arc::new(options))
}

impl Described {
    /// Makes the locks of the nodes with these numbers, in one replica of a stage.
    pub(crate) fn locks(&self) -> impl Fn(&[usize], usize) -> Option<Box<dyn NodeLock>> + use<> {
        let locked_objects: Vec<Vec<Option<LockedObject>>> =
            self.0.iter().map(|node| node.locked_objects.clone()).collect();
        move |nodes, replica| {
            let taken: Vec<LockedObject> =
                nodes.iter().filter_map(|&node| locked_objects[node][replica].clone()).collect();
            Some(if taken.is_empty() { Box::new(NoLocks) } else { Box::new(ObjectLocks::of(taken)) })
        }
    }

    /// Whether no node has a policy or a worker, so that a compiled chain gives the same outputs.
    pub(crate) fn are_plain(&self) -> bool {
        self.0.iter().all(|node| node.is_plain)
    }

    /// The objects of a plan without replicas.
    pub(crate) fn objects(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.0.iter().flat_map(|node| node.objects.iter().map(|object| object.clone_ref(py))).collect()
    }

    /// The nodes with their replicas.
    pub(crate) fn into_replicas(self) -> Vec<Replicas<Object>> {
        self.0.into_iter().map(|node| Replicas { nodes: node.replicas }).collect()
    }
}
