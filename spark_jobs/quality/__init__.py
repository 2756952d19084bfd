"""The quality of the components: certificate, drift, sampling."""
