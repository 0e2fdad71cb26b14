//! Neighbouring `def` nodes of a stage on a thread, which take the items that wait for it in one call.

use remotemedia_runtime::{Bulk, Compilable};

use crate::attach::attach;
use crate::convert::object::Object;
use crate::node::bulk::chain::Chain;
use crate::node::callers::Place;
use crate::node::python_node::PythonNode;

impl Compilable<Object> for PythonNode {
    fn part(&self) -> Object {
        attach(|py| Object(self.object.clone_ref(py)))
    }

    fn compile(&self, parts: Vec<Object>, ids: Vec<String>) -> Box<dyn Bulk<Object>> {
        // Any of the nodes.
        let place = Place::new(&self.site.place.owner, None);
        let nodes = parts.into_iter().map(|part| part.0).collect();
        Box::new(Chain::with_positions(nodes, ids, self.site.bridge.new_chunk(), place))
    }
}
