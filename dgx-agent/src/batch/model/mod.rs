//! The commit protocol itself, not a model of it, in every order in which its operations can reach the store.
//!
//! Agents that made different rows of one part (a model seldom says the same twice) run to their ends, each at any
//! time, late or not at all: an agent that is no longer scheduled has died there, one that is scheduled again after all
//! others have ended is a zombie. After every step all that was promised must hold; and from every state a fresh agent
//! must be able to bring the batch to its end.

mod explore;
mod world;

use explore::{Faults, Reads, Role, explore};

/// Every order of all operations, reads too.
#[test]
fn two_agents_in_every_order() {
    let told = explore(&[Role::Agent, Role::Agent], Faults::default());
    assert!(told.states > 1000, "{told:?}");
    assert!(told.direct > 0 && told.staged > 0 && told.found > 0, "{told:?}");
}

/// An agent that begins anew, one that looked before anybody wrote, and a zombie that did so too: every order of their
/// writes, up to any point; whoever comes next completes the batch.
#[test]
fn two_agents_and_a_zombie_in_every_order_of_their_writes() {
    let roles = [Role::Zombie, Role::Zombie, Role::Zombie];
    let told = explore(&roles, Faults { reads: Reads::Late, ..Faults::default() });
    assert!(told.states > 1000, "{told:?}");
    assert!(told.direct > 0 && told.staged > 0 && told.found > 0, "{told:?}");
}

/// A store that answers "exists" to our own retried create, once, at any create.
#[test]
fn an_own_create_that_is_said_to_exist_already() {
    let faults = Faults { reads: Reads::Early, retried_creates: 1, ..Faults::default() };
    let told = explore(&[Role::Agent, Role::Agent], faults);
    assert!(told.states > 1000 && told.direct > 0, "{told:?}");
}

/// A request that timed out, was sent again, and reaches the store once more at any later time.
#[test]
fn a_write_that_comes_twice() {
    let told =
        explore(&[Role::Agent, Role::Agent], Faults { reads: Reads::Early, twice: 1, ..Faults::default() });
    assert!(told.states > 1000, "{told:?}");
}

/// Two agents to the manifest and a zombie beside them. For `make soak`.
#[test]
#[ignore = "takes minutes: make soak"]
fn two_agents_and_a_zombie_to_the_manifest() {
    let faults = Faults { reads: Reads::Late, ..Faults::default() };
    let told = explore(&[Role::Agent, Role::Agent, Role::Zombie], faults);
    assert!(told.states > 10_000, "{told:?}");
    println!(
        "the commit protocol, two agents and a zombie to the manifest, every order of their writes: {told:?}"
    );
}
