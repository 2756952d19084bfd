"""Other systems for the featurize step: each as its documentation recommends, in a separate environment."""
