//! Where things stand in a file: every call, its arguments and the string literals inside it.
//!
//! Starlark tells a built-in function where it was called, not where each argument stands. This index, made from the syntax tree,
//! answers that, so that a caret can point at the one wrong word.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use starlark::codemap::Span as ByteSpan;
use starlark::syntax::AstModule;
use starlark::syntax::ast::{ArgumentP, AssignTargetP, AstExpr, AstLiteral, AstStmt, ExprP, StmtP};

/// A range of bytes.
type Range = (usize, usize);

/// One call.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    /// Named arguments: the name's place and the value's.
    pub(super) named: BTreeMap<String, (Range, Range)>,
    /// Named arguments that are written as a list: the places of its elements.
    pub(super) elements: BTreeMap<String, Vec<Range>>,
    /// String literals anywhere inside, the first place of each.
    pub(super) literals: BTreeMap<String, Range>,
    /// The top-level variable that the call's result is assigned to.
    pub(super) assigned_to: Option<String>,
}

/// All calls of one file, by their place.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    calls: BTreeMap<Range, Call>,
}

impl Index {
    /// Indexes a parsed file.
    pub(super) fn of(module: &AstModule) -> Self {
        let mut index = Self::default();
        module.statement().node.visit_expr(|expression| index.expression(expression));
        index.assignments(module.statement());
        index
    }

    /// The call at exactly this place.
    pub(super) fn call(&self, start: usize, end: usize) -> Option<&Call> {
        self.calls.get(&(start, end))
    }

    /// The call that a top-level variable was assigned from, and where the call begins.
    pub(super) fn assigned(&self, name: &str) -> Option<(usize, &Call)> {
        let mut calls = self.calls.iter();
        let found = calls.find(|(_, call)| call.assigned_to.as_deref() == Some(name));
        found.map(|((start, _), call)| (*start, call))
    }

    /// Notes which variable the result of a top-level call is assigned to.
    fn assignments(&mut self, statement: &AstStmt) {
        match &statement.node {
            StmtP::Statements(statements) => statements.iter().for_each(|inner| self.assignments(inner)),
            StmtP::Assign(assign) => {
                if let AssignTargetP::Identifier(name) = &assign.lhs.node
                    && let Some(call) = self.calls.get_mut(&range(assign.rhs.span))
                {
                    call.assigned_to = Some(name.node.ident.clone());
                }
            }
            _ => {}
        }
    }

    fn expression(&mut self, expression: &AstExpr) {
        if let ExprP::Call(_, arguments) = &expression.node {
            let mut call = Call::default();
            for argument in &arguments.args {
                match &argument.node {
                    ArgumentP::Named(name, value) => {
                        call.named.insert(name.node.clone(), (range(name.span), range(value.span)));
                        if let ExprP::List(elements) = &value.node {
                            let places = elements.iter().map(|element| range(element.span)).collect();
                            call.elements.insert(name.node.clone(), places);
                        }
                    }
                    ArgumentP::Positional(_) | ArgumentP::Args(_) | ArgumentP::KwArgs(_) => {}
                }
            }
            literals(expression, &mut call.literals);
            self.calls.insert(range(expression.span), call);
        }
        expression.node.visit_expr(|child| self.expression(child));
    }
}

fn literals(expression: &AstExpr, found: &mut BTreeMap<String, Range>) {
    if let ExprP::Literal(AstLiteral::String(text)) = &expression.node {
        found.entry(text.node.clone()).or_insert_with(|| range(text.span));
    }
    expression.node.visit_expr(|child| literals(child, found));
}

pub(super) fn range(span: ByteSpan) -> Range {
    (span.begin().get() as usize, span.end().get() as usize)
}
