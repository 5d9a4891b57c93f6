mod queue;
mod transport;
