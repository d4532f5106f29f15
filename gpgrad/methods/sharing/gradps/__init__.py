"""GradPS (Qin et al., ICML 2025): clones of the neurons on which agents' gradients cancel."""
