import './workers.js'
import 'graphiql/style.css'
import '@graphiql/plugin-explorer/style.css'
import './page.css'

import { explorerPlugin } from '@graphiql/plugin-explorer'
import { createGraphiQLFetcher } from '@graphiql/toolkit'
import { GraphiQL, HISTORY_PLUGIN } from 'graphiql'
import { createRoot } from 'react-dom/client'

import { examples } from './examples.js'

const fetcher = createGraphiQLFetcher({
  url: '/graphql',
  subscriptionUrl: `${location.protocol.replace('http', 'ws')}//${location.host}/graphql`,
})
// GraphiQL shows the query of the first tab on a first visit, but not its variables; later it has stored them.
const variables = localStorage.getItem('graphiql:tabState') ? undefined : examples[0].variables
const plugins = [HISTORY_PLUGIN, explorerPlugin()]

createRoot(document.getElementById('page')).render(
  <GraphiQL fetcher={fetcher} plugins={plugins} defaultTabs={examples} initialVariables={variables}>
    <GraphiQL.Logo>nexus_graph</GraphiQL.Logo>
  </GraphiQL>,
)
