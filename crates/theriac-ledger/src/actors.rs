//! Whose keys a ledger knows, and what they may do.

use serde::Serialize;
use theriac_core::Role;

use crate::entry::{Action, Header};
use crate::finding::What;
use crate::key::PublicKey;

/// A key that the ledger admitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// Whose.
    pub name: String,
    /// In which role it signs.
    pub role: Role,
    /// The key.
    pub public: PublicKey,
    /// The entry that admitted it.
    pub since: u64,
    /// The entry that retired it.
    pub retired: Option<u64>,
}

/// All keys that were ever admitted, in that order.
#[derive(Clone, Debug, Default)]
pub struct Actors(Vec<Actor>);

/// Whether a role may admit and retire keys.
fn governs(role: Role) -> bool {
    matches!(role, Role::Engineer | Role::Auditor)
}

impl Actors {
    /// All keys.
    pub fn all(&self) -> &[Actor] {
        &self.0
    }

    /// The owner of a key.
    pub fn find(&self, public: &PublicKey) -> Option<&Actor> {
        self.0.iter().find(|actor| actor.public == *public)
    }

    /// The keys that sign now.
    pub fn active(&self) -> impl Iterator<Item = &Actor> {
        self.0.iter().filter(|actor| actor.retired.is_none())
    }

    /// What speaks against this entry, going by who signed it.
    pub(crate) fn objections(&self, header: &Header) -> Vec<What> {
        let founder = Actor {
            name: header.actor.clone(),
            role: header.role,
            public: header.public,
            since: header.number,
            retired: None,
        };
        let actor = match (&header.action, self.0.is_empty()) {
            (Action::Init { .. }, true) => &founder,
            _ => match self.find(&header.public) {
                Some(actor) => actor,
                None => return vec![What::UnknownKey { public: header.public }],
            },
        };
        let mut objections = Vec::new();
        if let Some(entry) = actor.retired {
            objections.push(What::RetiredKey { public: header.public, retired: entry });
        }
        if actor.name != header.actor || actor.role != header.role {
            let owner = format!("{} ({})", actor.name, actor.role);
            objections.push(What::FalseName { owner, claimed: format!("{} ({})", header.actor, header.role) });
        }
        let objection = match &header.action {
            Action::Admit { .. } | Action::Retire { .. } if !governs(actor.role) => {
                Some(What::NotAllowed { role: actor.role })
            }
            Action::Admit { public, .. } if self.find(public).is_some() => Some(What::Misplaced("admits a key twice")),
            Action::Retire { public } if !self.active().any(|actor| actor.public == *public) => {
                Some(What::Misplaced("retires a key that is not admitted, or is retired"))
            }
            Action::Retire { public } if !self.active().any(|a| a.public != *public && governs(a.role)) => {
                Some(What::Misplaced("retires the last key that may admit others"))
            }
            _ => None,
        };
        objections.extend(objection);
        objections
    }

    /// Takes over what an entry says of keys.
    pub(crate) fn apply(&mut self, header: &Header) {
        let (name, role, public) = match &header.action {
            Action::Init { .. } => (header.actor.clone(), header.role, header.public),
            Action::Admit { actor, role, public } => (actor.clone(), *role, *public),
            Action::Retire { public } => {
                let retired = self.0.iter_mut().find(|actor| actor.public == *public);
                retired.into_iter().for_each(|actor| actor.retired = Some(header.number));
                return;
            }
            _ => return,
        };
        self.0.push(Actor { name, role, public, since: header.number, retired: None });
    }
}
