//! The step that polls.
#![allow(dead_code)]
mod conditional;
mod limits;
mod link;
mod pace;
mod pagination;
