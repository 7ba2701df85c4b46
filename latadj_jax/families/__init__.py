"""Model architectures as Hugging Face names them: config, module and names of weights of each."""
