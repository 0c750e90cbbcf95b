//! What results mean: answers decoded by interface and method, brought into a form in which equal meaning is equal text.

use capnp::traits::HasTypeId as _;
use ocluster_api::cluster_capnp::{
    admin, job, pool_admin, progress, queue, registration, submission, ticket,
};
use ocluster_vat::SturdyRef;

use crate::message::{Method, Raw};

pub(crate) const JOB_LOG: Method = (job::Client::TYPE_ID, 0);
pub(crate) const JOB_RESULT: Method = (job::Client::TYPE_ID, 1);
pub(crate) const QUEUE_POP: Method = (queue::Client::TYPE_ID, 0);
const REGISTER: Method = (registration::Client::TYPE_ID, 0);
const SUBMIT: Method = (submission::Client::TYPE_ID, 0);
const TICKET_JOB: Method = (ticket::Client::TYPE_ID, 0);
const SHOW: Method = (pool_admin::Client::TYPE_ID, 0);
const SET_ACTIVE: Method = (pool_admin::Client::TYPE_ID, 2);
const SET_RATE: Method = (pool_admin::Client::TYPE_ID, 5);
const DRAIN: Method = (pool_admin::Client::TYPE_ID, 7);
const ADMIN_POOL: Method = (admin::Client::TYPE_ID, 1);
const ADD_CLIENT: Method = (admin::Client::TYPE_ID, 2);
pub(crate) const REPORT: Method = (progress::Client::TYPE_ID, 0);
/// Cap'n Proto's `Persistent.save`.
const SAVE: Method = (0xc8cb_212f_cd9f_5691, 0);

/// The results of a call, decoded.
pub(crate) fn decode(method: Method, answer: &Raw) -> String {
    answer.results(|content| match method {
        // Capabilities, which are compared by what is said about them, and empty answers.
        REGISTER | SUBMIT | TICKET_JOB | ADMIN_POOL | ADD_CLIENT | SET_ACTIVE | SET_RATE
        | DRAIN => String::new(),
        QUEUE_POP => {
            let results: queue::pop_results::Reader<'_> = content.get_as().unwrap();
            format!("{:?}", results.get_descr().unwrap())
        }
        JOB_RESULT => {
            let results: job::result_results::Reader<'_> = content.get_as().unwrap();
            results.get_output().unwrap().to_string().unwrap()
        }
        SHOW => {
            let results: pool_admin::show_results::Reader<'_> = content.get_as().unwrap();
            results.get_state().unwrap().to_string().unwrap()
        }
        SAVE => {
            use ocluster_api::persistent_capnp::persistent;
            let results: persistent::save_results::Reader<'_> = content.get_as().unwrap();
            let uri: capnp::text::Reader<'_> = results.get_sturdy_ref().get_as().unwrap();
            // Where the scheduler is and what the secret is differ from run to run.
            let uri = SturdyRef::parse(uri.to_str().unwrap()).unwrap();
            let secret = uri.id.as_bytes().len();
            format!("{} with a secret of {secret} bytes", uri.address.digest)
        }
        (interface, method) => panic!("no capture has method {method} of {interface:#x}"),
    })
}
