mod console;
mod entropy;
mod queue;
mod transport;
