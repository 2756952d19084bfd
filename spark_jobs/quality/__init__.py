"""How good the components are: certificate, drift, sampling."""
