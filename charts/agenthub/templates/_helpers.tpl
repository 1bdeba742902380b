{{- define "agenthub.operator" -}}
{{- printf "%s-operator" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}

{{- define "agenthub.account" -}}
{{- .Values.serviceAccount.name | default (include "agenthub.operator" .) -}}
{{- end -}}

{{- define "agenthub.cluster" -}}
{{- .Values.cluster.name | default (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}

{{- define "agenthub.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "agenthub.selector" -}}
app.kubernetes.io/name: agenthub-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "agenthub.labels" -}}
{{ include "agenthub.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: agenthub
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What the operator does in the namespaces of its clusters. */}}
{{- define "agenthub.rules" -}}
- apiGroups: [agenthub.io]
  resources: [brokerclusters]
  verbs: [list, watch]
- apiGroups: [agenthub.io]
  resources: [brokerclusters/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: ['']
  resources: [services, configmaps, serviceaccounts]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors, prometheusrules]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [cert-manager.io]
  resources: [certificates]
  verbs: [list, watch, create, patch, delete]
# It makes tokens once, exchanges its own credential with NATS, and reads what a cluster names; it can't list any.
- apiGroups: ['']
  resources: [secrets]
  verbs: [get, create, patch]
- apiGroups: ['']
  resources: [pods]
  verbs: [list, watch, delete]
# To say that another autoscaler is at work on the same cluster.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

{{/* An object with what `patches` has for its kind: (list . "agenthub.some.template"). */}}
{{- define "agenthub.patched" -}}
{{- $object := include (index . 1) (index . 0) | fromYaml -}}
{{- with $object.Error }}{{ fail . }}{{ end -}}
{{- toYaml (mergeOverwrite $object (deepCopy (index (index . 0).Values.patches $object.kind | default dict))) -}}
{{- end -}}
