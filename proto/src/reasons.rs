//! Why the agent refuses a call: `google.rpc.ErrorInfo.reason` beside the status, for callers that branch. The message
//! is for people and may change; these do not.

/// `ErrorInfo.domain` of them all.
pub const DOMAIN: &str = "dgx.agent.v1";

/// NOT_FOUND: the agent has no job of that batch. With `ResourceInfo`.
pub const JOB_UNKNOWN: &str = "JOB_UNKNOWN";
/// NOT_FOUND: there is no such batch in the store, or it has no pages.
pub const BATCH_NOT_FOUND: &str = "BATCH_NOT_FOUND";
/// ALREADY_EXISTS: the batch is a job with other content. Metadata: `batch_id`, `state`, `differs` (separated by commas).
pub const JOB_DIFFERS: &str = "JOB_DIFFERS";
/// FAILED_PRECONDITION: not in the state that the job is in. Metadata: `batch_id`, `state`; with `PreconditionFailure`.
pub const JOB_STATE: &str = "JOB_STATE";
/// FAILED_PRECONDITION: what is committed, pinned or running is another thing than what is asked for.
pub const BATCH_CHANGED: &str = "BATCH_CHANGED";
/// FAILED_PRECONDITION: the agent's settings, or what is asked of them.
pub const SETTINGS: &str = "SETTINGS";
/// FAILED_PRECONDITION: the model server answers, and no request can succeed.
pub const MODEL_SERVER_REFUSES: &str = "MODEL_SERVER_REFUSES";
/// INVALID_ARGUMENT: a field of the request. With `BadRequest`.
pub const BAD_FIELD: &str = "BAD_FIELD";
/// PERMISSION_DENIED: a root that is not below the agent's.
pub const ROOT_OUTSIDE: &str = "ROOT_OUTSIDE";
/// RESOURCE_EXHAUSTED: as many callers as the agent serves are there already. Metadata: `limit`; with `RetryInfo`.
pub const TOO_MANY_CALLERS: &str = "TOO_MANY_CALLERS";
/// RESOURCE_EXHAUSTED: a message above the limit. Metadata: `bytes`, `limit_bytes`, `flag`. Sending it again is no use.
pub const MESSAGE_TOO_LARGE: &str = "MESSAGE_TOO_LARGE";
/// DATA_LOSS: files that are not what they must be.
pub const BAD_DATA: &str = "BAD_DATA";
/// UNAVAILABLE: the agent ends. With `RetryInfo`, as the next three.
pub const DRAINING: &str = "DRAINING";
pub const STORE_UNREACHABLE: &str = "STORE_UNREACHABLE";
pub const MODEL_SERVER_AWAY: &str = "MODEL_SERVER_AWAY";
/// The disk under the agent's state folder takes no change: it is full, or away.
pub const STATE_UNWRITABLE: &str = "STATE_UNWRITABLE";
/// INTERNAL: a mistake of the agent, or a broken file of its state.
pub const INTERNAL: &str = "INTERNAL";
