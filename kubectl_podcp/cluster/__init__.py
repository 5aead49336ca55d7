"""The Kubernetes side: which cluster, which credentials, which Pod and container."""
