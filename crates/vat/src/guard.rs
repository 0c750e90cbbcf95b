//! guard
use capnp::capability::FromServer;
use std::rc::Rc;
/// A client of `server` whose `guard` is dropped when the last reference to the client goes, even
/// while calls on it are pending.
pub fn guarded_client<C, S, G>(_server: Rc<S>, _guard: G) -> C
where
    C: FromServer<S>,
    S: 'static,
    G: 'static,
{
    todo!()
}
