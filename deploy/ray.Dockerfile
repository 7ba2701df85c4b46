# The image of KubeRay's heads and workers:
#   docker build -f deploy/ray.Dockerfile -t latadj-ray .
FROM rayproject/ray:2.60.0-py311-cpu
COPY --chown=ray:users . /home/ray/latadj
RUN pip install --no-cache-dir "/home/ray/latadj[serve]" && rm -rf /home/ray/latadj
