//! A service: what a worker keeps for one logical name, whatever dtab it is bound under.

use std::cell::RefCell;

use balance::{Backoff, Budget, BudgetConfig};
use names::Path;
use telemetry::{Counter, Gauge, Stat};

use crate::metrics::{Requests, Scope};
use crate::settings;

pub(crate) struct Service {
    /// `/svc/world`
    pub name: String,
    pub settings: settings::Service,
    pub scope: Scope,
    pub requests: Requests,
    pub retries: Counter,
    pub budget_exhausted: Counter,
    pub retries_each: Stat,
    budget: RefCell<Budget>,
    budget_level: Gauge,
}

impl Service {
    pub(crate) fn new(scope: Scope, name: &Path, settings: settings::Service) -> Service {
        let budget = Budget::new(&settings.retry_budget.unwrap_or_default());
        let budget = budget.or_else(|_| Budget::new(&BudgetConfig::default()));
        let service = Service {
            name: name.show(),
            requests: Requests::new(&scope),
            retries: scope.counter(&["retries", "total"]),
            budget_exhausted: scope.counter(&["retries", "budget_exhausted"]),
            retries_each: scope.stat(&["retries", "per_request"]),
            // Settings come from a document that was checked, and the default is in bounds.
            budget: RefCell::new(budget.unwrap_or_else(|_| unreachable!("the default is in bounds"))),
            budget_level: scope.gauge(&["retries", "budget"]),
            scope,
            settings,
        };
        service.maintain(0);
        service
    }

    #[inline]
    pub(crate) fn deposit(&self, now: u64) {
        self.budget.borrow_mut().deposit(now);
    }

    pub(crate) fn withdraw(&self, now: u64) -> bool {
        self.budget.borrow_mut().withdraw(now)
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.settings.backoff.unwrap_or(Backoff::NONE)
    }

    pub(crate) fn maintain(&self, now: u64) {
        self.budget_level.set(self.budget.borrow_mut().balance(now) as f64);
    }
}

impl settings::Service {
    /// Keys that `other` sets win.
    #[must_use]
    pub(crate) fn overridden(self, other: &settings::Service) -> settings::Service {
        settings::Service {
            total_timeout: other.total_timeout.or(self.total_timeout),
            retry_budget: other.retry_budget.or(self.retry_budget),
            backoff: other.backoff.or(self.backoff),
            classifier: other.classifier.or(self.classifier),
        }
    }
}

impl settings::Client {
    /// Keys that `other` sets win.
    #[must_use]
    pub(crate) fn overridden(self, other: &settings::Client) -> settings::Client {
        settings::Client {
            load_balancer: other.load_balancer.or(self.load_balancer),
            pool: other.pool.or(self.pool),
            accrual: other.accrual.or(self.accrual),
            attempt_timeout: other.attempt_timeout.or(self.attempt_timeout),
            requeue_budget: other.requeue_budget.or(self.requeue_budget),
            tls: other.tls.clone().or(self.tls),
            forward_client_cert: other.forward_client_cert.or(self.forward_client_cert),
            session: other.session.or(self.session),
            socket: other.socket.or(self.socket),
            fail_fast: other.fail_fast.or(self.fail_fast),
        }
    }
}
